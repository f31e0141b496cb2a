"""`benchmark/networks.py`, where the peers that it measures are installed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).resolve().parents[2] / "benchmark" / "networks.py"


def run(*arguments):
    return subprocess.run([sys.executable, str(PROGRAM), *arguments], capture_output=True, text=True)


@pytest.mark.slow
def test_a_network_beside_its_quantized_twin_in_openvino_and_onnx_runtime(tmp_path):
    for peer in ("onnx", "onnxruntime", "openvino"):
        pytest.importorskip(peer)
    report, names = tmp_path / "report.json", ["ORT int8", "OpenVINO int8", "bmx all int8"]
    options = ["--networks", "lenet", "--threads", "1", "--rounds", "1", "--contenders", *names]
    done = run(*options, "--folder", str(tmp_path), "--json", str(report))
    assert done.returncode == 0, done.stderr
    results = json.loads(report.read_text())["results"]
    assert [(r["name"], r["kind"], r["input"]) for r in results] == [
        (name, kind, "1x28x28") for name, kind in zip(names, ("onnx", "onnx", "bmx"))
    ]
    assert "- bmx all int8: " in done.stdout and " times as fast as the fastest of the others, " in done.stdout


def test_a_network_that_there_is_not_is_one_line(tmp_path):
    done = run("--networks", "resnet19", "--contenders", "MXNet", "--folder", str(tmp_path))
    assert done.returncode == 1 and done.stderr.startswith("networks.py: no model 'resnet19'; there are alexnet, ")
    assert done.stderr.count("\n") == 1
