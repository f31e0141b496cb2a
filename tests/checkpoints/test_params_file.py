"""The reader of .params files: all that MXNet writes, and nothing that is damaged."""

import struct

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bmx
from bmx.checkpoints.params_file import encode_array, encode_params, parse_params, read_bytes

TYPES = ["float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool"]


@pytest.fixture
def saved(tmp_path):
    """Function that saves arrays with MXNet and returns the bytes."""

    def saved(arrays):
        mx.nd.waitall()  # MXNet writes the size of a sparse array before it has computed it
        mx.nd.save(str(tmp_path / "x.params"), arrays)
        return (tmp_path / "x.params").read_bytes()

    return saved


def example():
    rng = np.random.RandomState(0)
    return {f"arg:{name}": mx.nd.array(rng.randint(0, 2, (2, 3, 1)), dtype=name) for name in TYPES}


def test_reads_what_mxnet_writes(saved):
    arrays = example()
    stored = parse_params(saved(arrays), "x")
    assert list(stored) == list(arrays)
    for name, array in stored.items():
        assert (array.version, array.shape, array.sparse) == (2, (2, 3, 1), False)
        assert array.numpy().dtype == arrays[name].dtype
        np.testing.assert_array_equal(array.numpy(), arrays[name].asnumpy())


def test_reads_numpy_shapes(saved):
    with mx.util.np_shape(True):
        data = saved({"arg:scalar": mx.nd.ones(()), "arg:empty": mx.nd.zeros((2, 0))})
    stored = parse_params(data, "x")
    assert [array.version for array in stored.values()] == [3, 3]
    assert stored["arg:scalar"].numpy() == 1
    assert stored["arg:empty"].shape == (2, 0)


def test_reads_sparse_arrays(saved):
    dense = mx.nd.array([[0, 1], [0, 0], [2, 3]])
    stored = parse_params(saved({"arg:r": dense.tostype("row_sparse"), "arg:c": dense.tostype("csr")}), "x")
    assert all(array.sparse and array.shape == (3, 2) for array in stored.values())
    with pytest.raises(bmx.Error, match="sparse"):
        stored["arg:r"].numpy()


def test_writes_back_the_same_bytes(saved):
    data = saved(example())
    assert encode_params([(name, array.record) for name, array in parse_params(data, "x").items()]) == data


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_mxnet_reads_every_version_that_is_written(version):
    arrays = {"arg:a": np.arange(6, dtype=np.float32).reshape(2, 3), "aux:b": np.array([-1.5], np.float64)}
    data = encode_params([(name, encode_array(array, version)) for name, array in arrays.items()])
    with mx.util.np_shape(version == 3):
        loaded = mx.nd.load_frombuffer(data)
    stored = parse_params(data, "x")
    for name, array in arrays.items():
        assert stored[name].version == version
        assert loaded[name].dtype == stored[name].numpy().dtype == array.dtype
        np.testing.assert_array_equal(loaded[name].asnumpy(), array)
        np.testing.assert_array_equal(stored[name].numpy(), array)


def test_every_truncation_is_an_error(saved):
    data = saved({"arg:a": mx.nd.ones((2, 3)), "arg:s": mx.nd.ones((2, 2)).tostype("csr")})
    for size in range(len(data)):
        with pytest.raises(bmx.Error, match=r"^some\.params: .*\(at byte \d+\)"):
            parse_params(data[:size], "some.params")
    with pytest.raises(bmx.Error, match="after the end"):
        parse_params(data + b"\0", "some.params")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_files_never_reach_mxnet_as_they_are(data):
    """Wherever bytes are changed: a clear error, or a file that MXNet reads too."""
    arrays = [
        ("arg:a", encode_array(np.arange(6, dtype=np.float32).reshape(2, 3), 2)),
        ("arg:b", encode_array(np.arange(3, dtype=np.float64), 0)),
        ("aux:c", encode_array(np.arange(2, dtype=np.int8), 1)),
    ]
    damaged = bytearray(encode_params(arrays))
    for _ in range(data.draw(st.integers(1, 3))):
        value = data.draw(st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = value
    try:
        stored = parse_params(bytes(damaged), "x")
    except bmx.Error as error:
        assert "\n" not in str(error)
        return
    if all(array.version < 3 for array in stored.values()):
        loaded = mx.nd.load_frombuffer(bytes(damaged))
        assert {name: array.shape for name, array in loaded.items()} == {n: a.shape for n, a in stored.items()}


@pytest.mark.parametrize("version, storage", [(2, 3), (2, -1), (3, 1), (3, 2)])
def test_unknown_kinds_of_storage_are_errors(version, storage):
    """NumPy's arrays, version 3, are always dense."""
    record = encode_array(np.ones(2, np.float32), version)
    record = record[:4] + struct.pack("<i", storage) + record[8:]
    with pytest.raises(bmx.Error, match=f"^x: .*unknown storage type {storage}"):
        parse_params(encode_params([("arg:a", record)]), "x")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a params file at all, but a text that is long enough",
        struct.pack("<QQQ", 0x112, 0, 2**60),
        struct.pack("<QQQ", 0x113, 0, 0) + struct.pack("<Q", 0),
        struct.pack("<QQQ", 0x112, 0, 1) + struct.pack("<I", 0x7FFFFFFF) + bytes(64),  # makes MXNet take all memory
        encode_params([("arg:a", encode_array(np.ones(1), 2))] * 2),
        encode_params([("arg:a", encode_array(np.ones(1), 2))])[:-5] + b"\xff" * 5,
        struct.pack("<QQQ", 0x112, 0, 1) + encode_array(np.ones(1), 2) + struct.pack("<Q", 0),  # a list without names
    ],
)
def test_foreign_files_are_errors(data):
    with pytest.raises(bmx.Error, match="^x: ") as error:
        parse_params(data, "x")
    assert "\n" not in str(error.value)


def test_unreadable_paths_are_errors(tmp_path):
    with pytest.raises(bmx.Error, match="no such file"):
        read_bytes(str(tmp_path / "absent"))
    with pytest.raises(bmx.Error, match="directory"):
        read_bytes(str(tmp_path))
