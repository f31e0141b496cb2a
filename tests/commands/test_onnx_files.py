"""What of an .onnx file's inputs and outputs can be run: a stand-in for ONNX Runtime, and the real OpenVINO."""

import sys
import types

import numpy as np
import pytest

import bmx
from bmx.measure.runners import check_outputs, open_model


class Port:
    def __init__(self, name, shape, type="tensor(float)"):
        self.name, self.shape, self.type = name, shape, type


@pytest.fixture
def runtime(monkeypatch, tmp_path):
    """Opens a file whose ports are given."""
    (tmp_path / "net.onnx").write_bytes(b"")

    def open_with(inputs, outputs, **options):
        session = types.SimpleNamespace(get_inputs=lambda: inputs, get_outputs=lambda: outputs)
        module = types.SimpleNamespace(
            SessionOptions=types.SimpleNamespace,
            InferenceSession=lambda *_, **__: session,
            set_default_logger_severity=lambda level: None,
        )
        monkeypatch.setitem(sys.modules, "onnxruntime", module)
        return open_model(str(tmp_path / "net.onnx"), threads=1, batch=1, **options)

    return open_with


OUT = [Port("y", ["n", 4])]


def test_inputs(runtime):
    assert runtime([Port("x", ["n", 3, 8, 8])], OUT).inputs == {"x": (3, 8, 8)}
    assert runtime([Port("x", [1, 3, 8, 8])], OUT).inputs == {"x": (3, 8, 8)}
    for shape in (["n", 3, "h", "w"], [], None, ["n", None, 8, 8]):
        assert runtime([Port("x", shape)], OUT, shape=(3, 8, 8)).inputs == {"x": (3, 8, 8)}


@pytest.mark.parametrize(
    "inputs, outputs, message",
    [
        ([], OUT, "net.onnx: it has no input"),
        ([Port("x", [])], OUT, "the shape of 'x' is not in the file; give it with --"),
        ([Port("x", None)], OUT, "the shape of 'x' is not in the file; give it with --"),
        ([Port("x", ["n", "h"])], OUT, "the shape of 'x' is not in the file; give it with --"),
        ([Port("x", [2, 3])], OUT, "it takes only batches of 2, not of 1"),
        ([Port("x", ["n", 3, 0, 8])], OUT, "its input 'x' has the shape 3x0x8"),
        ([Port("x", ["n", 3], "tensor(int64)")], OUT, "its input 'x' is a tensor.int64.; it must be tensor.float."),
        (
            [Port("x", ["n", 3])],
            [Port("y", [], "seq(tensor(float))")],
            "its output 'y' is a seq.tensor.float",
        ),
        ([Port("x", ["n", 3])], [*OUT, Port("z", [], "tensor(string)")], "its output 'z' is a tensor.string.; allowed"),
        ([Port("x", ["n", 3])], [Port("y", [], "seq(map(int64,tensor(float)))")], "its output 'y' is a seq.map"),
        ([Port("x", ["n", 3])], [Port("y", [], "optional(tensor(float))")], "its output 'y' is a optional"),
    ],
)
def test_what_cannot_be_run_is_one_line(runtime, inputs, outputs, message):
    with pytest.raises(bmx.Error, match=message) as error:
        runtime(inputs, outputs)
    assert "\n" not in str(error.value)


def test_outputs():
    check_outputs("f", [np.ones((1, 2)), np.ones(1, np.int64), np.array(1.0)])
    for wrong, message in (
        ([np.ones(1), np.ones((1, 0))], r"^f: its output 1 is empty: its shape is \(1, 0\)$"),
        ([[np.ones(1)]], "^f: its output 0 is not an array of numbers$"),
        ([np.array(["a"])], "^f: its output 0 is not an array of numbers$"),
    ):
        with pytest.raises(bmx.Error, match=message):
            check_outputs("f", wrong)


def onnx_file(path, sizes, type_="FLOAT"):
    """A file that adds 1 to its input; sizes may be names, or None where the file is not to say how many there are."""
    onnx = pytest.importorskip("onnx")
    helper = onnx.helper
    number = getattr(onnx.TensorProto, type_)
    ports = [helper.make_tensor_value_info(name, number, sizes) for name in ("x", "y")]
    one = helper.make_tensor("one", number, [], [1])
    graph = helper.make_graph([helper.make_node("Add", ["x", "one"], ["y"])], "net", ports[:1], ports[1:], [one])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return str(path)


@pytest.mark.parametrize("sizes", [["n", 3, 4], [2, 3, 4], ["n", "h", 4], None])
def test_openvino_runs_files_that_say_more_or_less_of_their_input(tmp_path, sizes):
    pytest.importorskip("openvino")
    runner = open_model(onnx_file(tmp_path / "net.onnx", sizes), 1, 2, shape=(3, 4), framework="openvino")
    assert runner.inputs == {"x": (3, 4)}
    samples = np.random.RandomState(0).standard_normal((2, 3, 4)).astype(np.float32)
    for scale in (1, 2):
        (outputs,) = runner.run([scale * samples])
        np.testing.assert_allclose(outputs, scale * samples + 1, rtol=1e-2)  # it may use bfloat16


@pytest.mark.parametrize(
    "sizes, type_, options, message",
    [
        (["n", "h"], "FLOAT", {}, "the shape of 'x' is not in the file; give it with --data-shape"),
        (None, "FLOAT", {}, "the shape of 'x' is not in the file; give it with --data-shape"),
        ([2, 3], "FLOAT", {}, "it takes only batches of 2, not of 1"),
        (["n", 3], "INT64", {}, "its input 'x' is a i64; it must be f32"),
        (["n", 3], "FLOAT", {"shape": (4,)}, "its input has the shape 3, but --data-shape is 4"),
        ("damaged", "FLOAT", {}, "OpenVINO cannot load it: "),
    ],
)
def test_what_openvino_cannot_run_is_one_line(tmp_path, sizes, type_, options, message):
    pytest.importorskip("openvino")
    path = tmp_path / "net.onnx"
    if sizes == "damaged":
        path.write_bytes(b"not a model")
    else:
        onnx_file(path, sizes, type_)
    with pytest.raises(bmx.Error, match=message) as error:
        open_model(str(path), 1, 1, framework="openvino", **options)
    assert "\n" not in str(error.value) and str(error.value).startswith(str(path))


def test_openvino_that_is_not_installed_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "net.onnx").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(bmx.Error, match=r"net.onnx: needs OpenVINO: pip install openvino$"):
        open_model(str(tmp_path / "net.onnx"), 1, 1, framework="openvino")
