"""`bmx bench --layers`: single layers of all kinds of arithmetic."""

import json

import pytest

from bmx import cli
from bmx import program as programs
from bmx.commands import bench_layers
from bmx.measure.single_layers import KINDS, LayerResult, LayersReport, Shape, layer_program

ARITHMETICS = {"float": "float", "float-binary": "float_signs", "int8": "int8", "int8-binary": "int8_signs"}


def test_table():
    fully_connected = LayerResult("int8-binary", Shape(64), 512, 200, 4096, cold=2e-6, warm=1e-6)
    convolution = LayerResult("float", Shape(16, 4, 5), 9216, 3000, 46080, cold=1e-5, warm=1e-5)
    lines = bench_layers.table(LayersReport(2, 3, 25e9, 2**27, [fully_connected, convolution])).splitlines()
    assert lines[0] == "2 thread(s); memory is read at 25.0 GB/s"
    assert lines[1].split()[-6:] == "us GMAC/s GB/s cold us GMAC/s GB/s".split()[-6:]
    assert lines[2].split() == "64 -> 64 int8 x binary 0.5 0.2 1.0 4 0.7 2.0 2 0.4".split()
    assert lines[3].split() == "3x3, 16x4x5 float x float 9.2 3.0 10.0 5 1.2 10.0 5 1.2".split()


@pytest.mark.parametrize("shape", [Shape(64), Shape(70), Shape(3, 5, 2)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_of_its_kind_and_shape(kind, shape):
    program = programs.decode(programs.encode(layer_program(kind, shape)))
    (layer,) = (step for step in program.steps if isinstance(step, programs.Conv))
    assert layer.arithmetic == ARITHMETICS.get(kind, kind)
    kernel = (3, 3) if shape.height else (1, 1)
    assert layer.weight.shape == (shape.channels, shape.channels, *kernel) == shape.weight
    size = (shape.height or 1, shape.width or 1, shape.channels)
    assert layer.source.shape == layer.stores[0].value.shape == size
    assert layer.source.dtype == layer.stores[0].value.dtype


def test_measures_all_kinds(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    report, chart = tmp_path / "layers.json", tmp_path / "layers.png"
    arguments = ["bench", "--layers", "--shapes", "64,3x4x2", "--threads", "1,2", "--rounds", "1"]
    assert cli.main([*arguments, "--json", str(report), "--plot", str(chart)]) == 0
    out = capsys.readouterr().out
    assert out.count("64 -> 64 ") == out.count("3x3, 3x4x2 ") == 2 * len(KINDS)
    assert "GMAC/s: billions of multiply-adds per second" in out
    content = json.loads(report.read_text())
    assert content["machine"]["processor"] and [entry["threads"] for entry in content["results"]] == [1, 2]
    for entry in content["results"]:
        assert entry["bandwidth"] > 0
        layers = {(layer["shape"], layer["kind"]): layer for layer in entry["layers"]}
        assert [kind for shape, kind in layers if shape == "64 -> 64"] == list(KINDS)
        weights = {kind: layers["64 -> 64", kind]["weight_bytes"] for kind in KINDS}
        assert weights == {"float": 16384, "float-binary": 512, "int8": 4096, "int8-binary": 512, "binary": 512}
        for (shape, _), layer in layers.items():
            assert layer["macs"] == (64 * 64 if shape == "64 -> 64" else 3 * 3 * 9 * 8)
            assert layer["cold"] > 0 and layer["warm"] > 0 and layer["tensor_bytes"] > 0
    assert chart.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_kinds_are_those_asked_for(capsys):
    assert cli.main("bench --layers --kinds binary,int8 --shapes 1 --rounds 1".split()) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line[:22].strip() for line in lines if line.startswith("1 -> 1")] == [
        "1 -> 1  binary x binar",
        "1 -> 1  int8 x int8",
    ]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("", "give a MODEL, or --layers to measure single layers"),
        ("--kinds int8", "give a MODEL, or --layers to measure single layers"),
        (
            "net.bmx --layers --kinds int8",
            "--kinds and --shapes are for single layers; leave out MODEL to measure these",
        ),
        ("--layers --kinds int8,int4", "unknown kind of layer 'int4'; allowed: float, float-binary, int8,"),
        ("--layers --shapes 20000", "layer 20000 -> 20000: it has 400,000,000 numbers"),
        ("--layers --shapes 1x30000x30000", "has 900,000,000 numbers"),
        ("--layers --batch 2", "single layers run on one image"),
        ("--layers --rounds 0", "--rounds is 0; it must be 1 or more"),
        ("--layers --kinds int8 --shapes 1 --rounds 1 --plot {folder}/none/x.png", "x.png: cannot be written"),
        ("--layers --kinds int8 --shapes 1 --rounds 1 --json {folder}/none/x.json", "x.json: cannot be written"),
    ],
)
def test_mistakes_are_one_line(capsys, tmp_path, arguments, message):
    assert cli.main(["bench", *arguments.format(folder=tmp_path).split()]) == 1
    err = capsys.readouterr().err
    assert err.startswith("bmx bench: ") and err.count("\n") == 1 and message in err


@pytest.mark.parametrize("arguments", ["--threads 0", "--shapes 0", "--shapes 3x4", "--shapes 1x2x0", "--shapes wide"])
def test_sizes_that_are_none_are_wrong_arguments(capsys, arguments):
    option, value = arguments.split()
    what = {"--threads": "integers of 1 or more, such as", "--shapes": "N or CxHxW of 1 or more, such as"}[option]
    with pytest.raises(SystemExit, match="2"):
        cli.main(["bench", "--layers", option, value])
    assert f"argument {option}: invalid value '{value}'; allowed: {what} " in capsys.readouterr().err
