"""`make demo`, shortened."""

import re
import sys

import pytest

from bmx.training import digits


@pytest.mark.slow
def test_demo_trains_converts_and_compares(root, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(root / "example"))
    import demo

    data = digits()
    monkeypatch.setattr(demo, "load_mnist", lambda: data)
    monkeypatch.setattr(demo, "IMAGES_TO_TRAIN_ON", 2 * len(data.train_images))
    monkeypatch.setattr(sys, "argv", ["demo.py"])
    demo.main()

    output = capfd.readouterr().out
    accuracies = re.search(r"test accuracy \(%\) +([\d.]+) +([\d.]+)", output)
    trained = re.findall(r"validation accuracy ([\d.]+)%", output)
    # What was measured from the files, float and packed, is what was seen while training.
    assert accuracies.groups() == (trained[3], trained[1])
    assert float(trained[3]) >= 95  # of float; what bits learn is in test_train_lenet_mnist.py
    assert float(re.search(r"file \(MB\) +[\d.]+ +[\d.]+ +([\d.]+) times smaller", output)[1]) >= 20
    assert len(re.findall(r"time of a batch of 1(?:00)? \(ms\) +[\d.]+ +[\d.]+ +[\d.]+ times faster", output)) == 2
