"""`bmx bench`: models of three kinds side by side."""

import json
import re
import sys

import numpy as np
import pytest

from bmx import cli
from bmx.commands import bench_tables, charts
from bmx.measure import Contender, Layer, Result, measure, runners
from bmx.measure.runners import ONNX_FRAMEWORKS, installed

SHAPE = (3, 12, 10)


def result(name, median, **more):
    fixed = {"kind": "bmx", "input": "3x12x10", "batch": 2, "threads": 1, "p5": median / 2, "p95": 2 * median}
    fixed.update(images_per_second=2 / median, calls=9, memory=50_000_000, memory_of_model=4_000_000)
    fixed.update({"load_seconds": 0.1, "file_bytes": 1_234_567, **more})
    return Result(name=name, median=median, **fixed)


def test_table():
    lines = bench_tables.table([result("slow", 0.008), result("fast", 0.002)]).splitlines()
    assert lines[0] == "batch 2, 1 thread(s)" and lines[1].split()[:2] == ["model", "input"]
    assert lines[2].split() == "slow 3x12x10 8.000 4.000 16.000 250 1.00 50 (4) 1.23".split()
    assert lines[3].split() == "fast 3x12x10 2.000 1.000 4.000 1000 4.00 50 (4) 1.23".split()
    assert bench_tables.table([result("a", 1, accuracy=0.75)]).splitlines()[2].endswith("75.00%")


def test_layer_table():
    layers = [Layer("conv", "CONV", 0.003, 6_000_000, "int8 x binary"), Layer("", "STORE", 0.001, 0)]
    lines = [line.split() for line in bench_tables.layer_table(result("a", 0.004, layers=layers)).splitlines()]
    assert lines[1:] == [
        ["step", "kind", "arithmetic", "ms", "share", "GMAC/s"],
        ["conv", "CONV", "int8", "x", "binary", "3.0000", "75.0%", "2"],
        ["STORE", "1.0000", "25.0%"],
        ["all", "steps", "4.0000"],
    ]


@pytest.mark.parametrize(
    "median, threads, line",
    [
        (0.004, 1, None),
        (0.00401, 1, None),
        (0.005, 1, "a call takes 1.0000 ms (20.0%) more than its steps, timed in other calls: entering it from Python"),
        (0.005, 2, "entering it from Python, handing steps to threads, other programs"),
        (0.003, 1, "steps take 1.0000 ms (33.3%) more than a call: each is timed on its own, in other calls"),
    ],
)
def test_steps_that_do_not_add_up_to_a_call_are_explained(median, threads, line):
    pytest.importorskip("matplotlib")
    measured = result("a", median, layers=[Layer("conv", "CONV", 0.004, 6_000_000, "float")])
    measured.threads = threads
    assert bench_tables.outside_steps(measured) == bench_tables.layer_table(measured).splitlines()[4:]
    figure = charts._figure([(charts._draw_layers, measured)], [3])
    label = figure.axes[0].get_xlabel()
    assert label == "ms" if line is None else line in label and line in bench_tables.layer_table(measured)


def test_the_chart_of_layers_colours_them_by_arithmetic_with_a_legend():
    pytest.importorskip("matplotlib")
    from matplotlib.colors import to_rgba

    words = ("float", "float x binary", "int8", "int8 x binary", "binary")
    layers = [Layer(word, "CONV", 1.0, 10**9, word) for word in words]
    layers += [Layer("depthwise", "DEPTHWISE", 1.0, 10**9, "float"), Layer("pool", "POOL", 1.0, 0)]
    measured = result("a", 7.0, layers=layers)
    figure = charts._figure([(charts._draw_layers, measured)], [charts._height(charts._draw_layers, measured)])
    figure.canvas.draw()
    (axes,) = figure.axes
    bars = [bar.get_facecolor() for bar in axes.patches]
    assert len(set(bars[:5])) == 5 and bars[5] == bars[0] and len(set(bars[6][:3])) == 1  # a grey
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == [*words, "POOL"]
    assert [to_rgba(handle.get_facecolor()) for handle in legend.legend_handles] == [*bars[:5], bars[6]]
    assert "1 GMAC/s" in axes.texts[0].get_text()
    box = legend.get_window_extent()
    assert 0 <= box.x0 and box.x1 <= figure.bbox.x1 and 0 <= box.y0
    assert box.y1 < axes.xaxis.label.get_window_extent().y0  # below the words


def test_small_steps_are_one_bar_and_a_single_one_has_its_name():
    steps = [Layer("conv", "CONV", 1.0, 9), Layer("load", "LOAD", 1e-4, 0), Layer("store", "STORE", 1e-4, 0)]
    assert charts._large(result("a", 1, layers=steps[:2])) == steps[:2]
    assert [step.name for step in charts._large(result("a", 1, layers=steps))] == ["conv", "2 small steps"]


def test_measures_a_compiled_file_beside_its_checkpoint(capsys, bmx_file, checkpoint, samples, tmp_path):
    images, classes = samples
    report, chart = tmp_path / "bench.json", tmp_path / "bench.png"
    pytest.importorskip("matplotlib")
    command = ["bench", bmx_file, checkpoint, "--rounds", "2", "--batch", "8", "--layers", "--data", images]
    assert cli.main([*command, "--labels", classes, "--json", str(report), "--plot", str(chart)]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if re.match(r"net\S* +3x12x10", line)]
    assert [row[0] for row in rows] == ["net.bmx", "net-0003.params"]
    assert all(
        row[1] == "3x12x10" and row[-1] == "75.00%" for row in rows
    )  # the checkpoint took the shape of the other
    assert re.search(r"^hidden +CONV", out, re.MULTILINE) and "all steps" in out
    content = json.loads(report.read_text())
    assert content["machine"]["processor"] and [entry["kind"] for entry in content["results"]] == ["bmx", "mxnet"]
    first, second = content["results"]
    assert 0 < first["p5"] <= first["median"] <= first["p95"] and first["images_per_second"] == 8 / first["median"]
    assert first["calls"] >= 6 and first["accuracy"] == 0.75
    assert 0 < first["memory_of_model"] < second["memory_of_model"] < second["memory"]
    assert {layer["kind"] for layer in first["layers"]} >= {"LOAD", "CONV", "STORE"} and not second["layers"]
    assert all(bool(layer["arithmetic"]) == (layer["kind"] == "CONV") for layer in first["layers"])
    assert chart.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("largest", [0.0035, 0.02, 0.9])
def test_the_chart_of_accuracies_names_every_model_inside_of_the_picture(largest):
    pytest.importorskip("matplotlib")
    long = "resnet18-binary-with-first-and-last-layers-in-int8-0120.bmx"
    names = [(long, 0.003, 1), (long, 0.004, 8), ("float-0001.params", largest, 1)]
    results = [result(n, t, accuracy=0.5, batch=b) for n, t, b in names]
    figure = charts._figure([(charts._draw_accuracy, results)], [charts._height(charts._draw_accuracy, results)])
    figure.canvas.draw()
    (axes,) = figure.axes
    texts = axes.get_legend().get_texts()
    assert [text.get_text() for text in texts] == [f"{n} (batch {b})" for n, _, b in names]
    low, high = axes.get_xlim()
    places = [place for place in axes.get_xticks() if low <= place <= high]
    assert len(places) >= 2
    for box in (axes.get_legend().get_window_extent(), axes.get_tightbbox()):
        assert 0 <= box.x0 and box.x1 <= figure.bbox.x1 and 0 <= box.y0


def test_the_shape_for_a_checkpoint_may_be_that_of_a_compiled_file(capsys, bmx_file, checkpoint):
    assert cli.main(["bench", bmx_file, checkpoint, "--data-shape", "3,12,10", "--rounds", "1"]) == 0
    assert capsys.readouterr().out.count("3x12x10") == 2


def test_threads_and_batches_are_all_measured(capsys, bmx_file):
    assert cli.main(["bench", bmx_file, "--rounds", "1", "--batch", "1,3", "--threads", "1,2"]) == 0
    titles = [line for line in capsys.readouterr().out.splitlines() if line.startswith("batch")]
    assert titles == [f"batch {batch}, {threads} thread(s)" for threads in (1, 2) for batch in (1, 3)]


def test_an_onnx_file_is_run_by_all_that_is_installed_for_it(capsys, tmp_path, bmx_file):
    onnx = pytest.importorskip("onnx")
    there = [name for module, name in ONNX_FRAMEWORKS.items() if installed(module)]
    if not there:
        pytest.skip("neither ONNX Runtime nor OpenVINO is installed")
    helper, path = onnx.helper, str(tmp_path / "net.onnx")
    ports = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", *shape])
        for name, shape in (("data", SHAPE), ("output", (360,)))
    ]
    graph = helper.make_graph([helper.make_node("Flatten", ["data"], ["output"])], "net", ports[:1], ports[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    report = tmp_path / "bench.json"
    assert cli.main(["bench", path, bmx_file, "--batch", "4", "--rounds", "1", "--json", str(report)]) == 0
    results = json.loads(report.read_text())["results"]
    wanted = [*((f"net.onnx ({name})", "onnx", "3x12x10") for name in there), ("net.bmx", "bmx", "3x12x10")]
    assert [(r["name"], r["kind"], r["input"]) for r in results] == wanted
    out = capsys.readouterr().out
    assert re.search(r"^net.bmx: \d+\.\d\d times as fast as the fastest of the others, net.onnx \(", out, re.MULTILINE)
    assert ("not measured: " in out) == (len(there) < len(ONNX_FRAMEWORKS))


def test_an_onnx_file_for_which_nothing_is_installed(capsys, tmp_path, monkeypatch, bmx_file):
    (tmp_path / "net.onnx").write_bytes(b"")
    monkeypatch.setattr(runners, "installed", lambda framework: False)
    assert cli.main(["bench", str(tmp_path / "net.onnx"), bmx_file]) == 1
    message = "net.onnx: needs ONNX Runtime or OpenVINO: pip install 'bmx-mxnet[peers]'\n"
    assert capsys.readouterr().err.endswith(message)


def test_a_compiled_file_stands_beside_the_fastest_of_the_others():
    ours, theirs = result("a.bmx", 0.002), [result("b", 0.003, kind="onnx"), result("c", 1, kind="mxnet")]
    assert bench_tables.best_peers([*theirs, ours]) == ["a.bmx: 1.50 times as fast as the fastest of the others, b"]
    assert bench_tables.best_peers([ours]) == bench_tables.best_peers(theirs) == []


TARGETS = [  # checked before anything is measured
    *(
        (option, "{folder}/none/x.png", "x.png: cannot be written: there is no folder")
        for option in ("--json", "--plot")
    ),
    *((option, "{folder}", "is a folder; give the name of a file") for option in ("--json", "--plot")),
    *((option, "", "the name of a file to write is empty") for option in ("--json", "--plot")),
]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["none.bmx"], "none.bmx: no such file"),
        (["{model}", "net.tflite"], "net.tflite: is neither a .bmx file nor a checkpoint"),
        (["{cut}"], "cut.bmx: "),
        (["{checkpoint}"], "does not follow from the network; give it: --data-shape"),
        (["{model}", "--rounds", "0"], "--rounds is 0; it must be 1 or more"),
        (["{model}", "--data", "{images}"], "give --data and --labels together"),
        (["{model}", "--data", "{images}", "--labels", "{images}"], "20 samples, each of which needs one class"),
        (
            ["{model}", "--data", "{other}", "--labels", "{classes}"],
            "its samples have the shape (2,); the network takes 3x12x10",
        ),
        (["{model}", "--data", "{images}", "--labels", "{wrong}"], "wrong.npy: must be classes from 0 to 3"),
        (["{model}", "--batch", "1000000000"], "net.bmx: there is not enough memory: "),
        *(([model, option, name], message) for model in ("{model}", "none.bmx") for option, name, message in TARGETS),
        (["{checkpoint}", "--plot", "{folder}/x.png"], "--plot has nothing to draw"),
        (["{model}", "--data-shape", "3,12,10"], "net.bmx: the file has the shape of its input; --data-shape is for"),
        (
            ["{model}", "{checkpoint}", "--data-shape", "3,9,9"],
            "net.bmx: its input has the shape 3x12x10, but --data-shape is 3x9x9",
        ),
    ],
)
def test_mistakes_are_one_line(capsys, bmx_file, checkpoint, samples, tmp_path, arguments, message):
    (tmp_path / "cut.bmx").write_bytes(open(bmx_file, "rb").read()[:5000])
    np.save(tmp_path / "other.npy", np.zeros((20, 2), np.float32))
    np.save(tmp_path / "wrong.npy", np.full(20, 4))
    names = {"model": bmx_file, "images": samples[0], "classes": samples[1], "folder": tmp_path}
    names.update(checkpoint=checkpoint, cut=tmp_path / "cut.bmx", other=tmp_path / "other.npy")
    names.update(wrong=tmp_path / "wrong.npy")
    assert cli.main(["bench", *(word.format(**names) for word in arguments)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("bmx bench: ") and err.count("\n") == 1 and message in err


def test_the_last_words_of_a_process_are_waited_for(bmx_file, tmp_path, monkeypatch):
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec 1>&-\nsleep 0.3\necho the cause >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(Exception, match=r"net.bmx: its process ended \(status 3\): the cause"):
        measure([Contender(bmx_file)], rounds=1)


def test_a_process_that_dies_is_an_error(bmx_file, monkeypatch):
    monkeypatch.setenv("BMX_LIBRARY_DIR", "/none")
    with pytest.raises(Exception, match="libbmx.so: no such file"):
        measure([Contender(bmx_file)], rounds=1)
