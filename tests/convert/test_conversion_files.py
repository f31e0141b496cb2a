"""The converter and its files: what is wrong with the input is said, and the output is all or nothing."""

import json

import mxnet as mx
import numpy as np
import pytest

import bmx
from bmx.checkpoints.loading import load_checkpoint
from bmx.checkpoints.params_file import encode_array, encode_params, parse_params
from bmx.convert import conversion, convert_checkpoint


def conv(data, name, **attributes):
    return mx.sym.QConvolution(data, name=name, **{"kernel": (3, 3), "num_filter": 64, **attributes})


def replace_weight(shape):
    return lambda arrays: {**arrays, "arg:qconv_weight": np.ones(shape, np.float32)}


def without(name):
    return lambda arrays: {key: array for key, array in arrays.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("arg:qconv_weight"), "layer 'qconv': the array 'arg:qconv_weight' is missing"),
        (without("aux:bn0_moving_var"), "the array 'aux:bn0_moving_var' is missing"),
        (
            replace_weight((64, 64, 3, 3)),
            r"layer 'qconv': weight has the shape \(64, 64, 3, 3\); it must be \(64, inputs",
        ),
        (replace_weight((32, 64, 5, 5)), "layer 'qconv': weight has the shape"),
        (replace_weight((64, 64 * 25)), "layer 'qconv': weight has the shape"),
        (
            replace_weight((64, 32, 5, 5)),
            r"the array 'qconv_weight' has the shape .* the network needs \(64, 64, 5, 5\)",
        ),
        (
            lambda arrays: {**arrays, "arg:fc_weight": np.ones((10, 501), np.float32)},
            "the array 'fc_weight' has the shape",
        ),
        (lambda arrays: {"weight": np.ones(3)}, "not a checkpoint"),
    ],
)
def test_arrays_that_do_not_fit(save, lenet, tmp_path, change, message):
    path = save(lenet, (1, 1, 28, 28))
    arrays = change({name: array.numpy() for name, array in parse_params(path.read_bytes(), "").items()})
    path.write_bytes(encode_params([(name, encode_array(array, 2)) for name, array in arrays.items()]))
    with pytest.raises(bmx.Error, match=message) as error:
        convert_checkpoint(str(path))
    assert "net-0003.params: " in str(error.value)
    assert "\n" not in str(error.value)
    assert len(list(tmp_path.iterdir())) == 2


def test_nothing_to_pack(save, tmp_path):
    net = mx.sym.Convolution(mx.sym.var("data"), kernel=(3, 3), num_filter=4, name="c")
    with pytest.raises(bmx.Error, match="the network has no QConvolution or QFullyConnected layer"):
        convert_checkpoint(str(save(net, (1, 3, 9, 9))))
    with pytest.raises(bmx.Error, match="nothing to pack: q: only layers with act_bit 1"):
        convert_checkpoint(str(save(conv(net, "q", act_bit=2), (1, 3, 9, 9))))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_norm_that_reads_a_layer_as_its_gamma(save):
    """MXNet then believes that the layer gives a vector, and wrote beyond it as it ran."""
    data = mx.sym.var("data")
    good = mx.sym.BatchNorm(conv(data, "q"), name="bn")
    path = save(good, (1, 64, 9, 9))
    symbol = path.parent / "net-symbol.json"
    graph = json.loads(symbol.read_text())
    nodes = {node["name"]: place for place, node in enumerate(graph["nodes"])}
    graph["nodes"][nodes["bn"]]["inputs"][1] = [nodes["q"], 0, 0]
    symbol.write_text(json.dumps(graph))
    with pytest.raises(bmx.Error, match=r"node 'q' .* reads the shape .*, and what reads it needs \(64,\)"):
        convert_checkpoint(str(path), data_shape=(64, 9, 9))


class TestOutput:
    @pytest.fixture
    def path(self, save):
        return save(conv(mx.sym.var("data"), "q"), (1, 64, 9, 9))

    def test_folder(self, path, tmp_path):
        (tmp_path / "out").mkdir()
        report = convert_checkpoint(str(path), output=str(tmp_path / "out"))
        assert report.params_path == str(tmp_path / "out" / "binarized_net-0003.params")
        assert sorted(file.name for file in (tmp_path / "out").iterdir()) == [
            *("binarized_net-0003.params", "binarized_net-symbol.json")
        ]

    def test_prefix(self, path, tmp_path):
        convert_checkpoint(str(path), output=str(tmp_path / "small"))
        load_checkpoint(str(tmp_path / "small"), 3)

    def test_relative_paths(self, path, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        convert_checkpoint("net-0003.params")
        assert (tmp_path / "binarized_net-symbol.json").exists()
        convert_checkpoint("net-0003.params", output="small")
        assert (tmp_path / "small-symbol.json").exists()

    @pytest.mark.parametrize("name", ["binarized_net-0003.params", "binarized_net-symbol.json"])
    def test_existing_files(self, path, tmp_path, name):
        (tmp_path / name).write_text("precious")
        with pytest.raises(bmx.Error, match=f"{name}: exists already; use --force"):
            convert_checkpoint(str(path))
        assert (tmp_path / name).read_text() == "precious"
        assert len(list(tmp_path.iterdir())) == 3
        convert_checkpoint(str(path), force=True)
        load_checkpoint(str(tmp_path / "binarized_net"), 3)

    def test_existing_files_survive_a_failure(self, path, tmp_path):
        convert_checkpoint(str(path))
        before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.name.startswith("binarized")}
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(bmx.Error, match="truncated"):
            convert_checkpoint(str(path), force=True)
        assert {name: (tmp_path / name).read_bytes() for name in before} == before

    def test_second_rename_fails(self, path, tmp_path, monkeypatch):
        def replace(source, target, original=conversion.os.replace):
            if str(target).endswith(".params"):
                raise OSError(28, "No space left on device")
            original(source, target)

        monkeypatch.setattr(conversion.os, "replace", replace)
        with pytest.raises(
            bmx.Error, match=r"-0003.params: cannot be written \(No space left on device\); the old files"
        ):
            convert_checkpoint(str(path))
        assert len(list(tmp_path.iterdir())) == 2

    @pytest.mark.parametrize(
        ("output", "message"),
        [
            ("absent/small", "cannot be written to: No such file"),
            ("net-0003.params/small", "cannot be written to: Not a directory"),
            ("small.params", "it must be a folder or a path prefix"),
            ("", "it must be a folder or a path prefix"),
            ("net", "the output would overwrite the input"),
        ],
    )
    def test_wrong_outputs(self, path, tmp_path, monkeypatch, output, message):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(bmx.Error, match=message):
            convert_checkpoint(str(path), output=output, force=True)
        assert len(list(tmp_path.iterdir())) == 2

    @pytest.mark.parametrize("name", ["net.params", "net-003.params", "net-0003", "-0003.params", "net-symbol.json"])
    def test_wrong_names(self, tmp_path, name):
        with pytest.raises(bmx.Error, match="must be named <prefix>-NNNN.params"):
            convert_checkpoint(str(tmp_path / name))

    def test_wrong_word_width(self, path):
        with pytest.raises(bmx.Error, match="word width is 16; it must be 32 or 64"):
            convert_checkpoint(str(path), word_bits=16)
