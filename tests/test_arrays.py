"""Arrays in .npy and .npz files: read as NumPy reads them, and one line for whatever else is in the file."""

import contextlib
import io
import os
import random
import struct
import zipfile

import numpy as np
import pytest
from mutations import mutated

import bmx
from bmx.arrays import check_classes, load_named_samples, load_samples

TYPES = ["<f2", ">f4", "f8", "u1", ">i2", "i8", np.longdouble]


def npy(array, version=None):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asanyarray(array), version)
    return stream.getvalue()


def header(text, values=b""):
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text.encode("latin1") + values


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (2, 3, 4, 1)])
@pytest.mark.parametrize("order", "CF")
def test_reads_what_numpy_writes(tmp_path, kind, shape, order):
    array = np.array(np.random.RandomState(0).uniform(0, 99, shape), kind, order=order)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", x=array, y=array[:1])
    np.savez_compressed(tmp_path / "b.npz", x=array, y=array[:1])
    found = [load_samples(str(tmp_path / "a.npy"), mapped=mapped) for mapped in (False, True)]
    named = [load_named_samples(str(tmp_path / name)) for name in ("a.npz", "b.npz")]
    for read in (*found, load_named_samples(str(tmp_path / "a.npy")), *(arrays["x"] for arrays in named)):
        assert read.dtype == array.dtype
        np.testing.assert_array_equal(read, array)
    assert all(set(arrays) == {"x", "y"} for arrays in named)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_reads_every_version(tmp_path, version):
    array = np.arange(6.0).reshape(2, 3)
    (tmp_path / "a.npy").write_bytes(npy(array, version))
    np.testing.assert_array_equal(load_samples(str(tmp_path / "a.npy")), array)


@pytest.mark.parametrize(
    "text",
    [
        "{'descr': '<i2', 'fortran_order': False, 'shape': (2L, 3L), }",  # Python 2
        '{"shape": (2,3), "fortran_order" :False,"descr":"<i2"}\n',
    ],
)
def test_reads_other_headers(tmp_path, text):
    (tmp_path / "a.npy").write_bytes(header(text, np.arange(6, dtype="<i2").tobytes()))
    np.testing.assert_array_equal(load_samples(str(tmp_path / "a.npy")), np.arange(6).reshape(2, 3))


HUGE = "{'descr': '<f4', 'fortran_order': False, 'shape': (78399999999216,), }"


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "it does not begin as one"),
        (b"text", "it does not begin as one"),
        (npy(np.ones((2, 3)))[:-1], "47 bytes of values, where its header states 48"),
        (npy(np.ones((2, 3))) + b"x", "49 bytes of values, where its header states 48"),
        (npy(np.ones((2, 3)))[:40], "it ends in its header"),
        (header(HUGE), "0 bytes of values, where its header states 313599999996864"),
        (header("((((((("), "must hold one array of numbers"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, None), }"), "must hold one array of numbers"),
        (header("{'descr': '<q9', 'fortran_order': False, 'shape': (2, 2), }"), "data type '<q9' not understood"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 0), 'x': 1}"), "none that NumPy writes"),
        (npy(np.ones((2, 0))), "must hold one array of numbers"),
        (npy(np.ones(2)), "must hold one array of numbers"),
        (npy(np.float64(1)), "must hold one array of numbers"),
        (npy(np.array([["a"]])), "must hold one array of numbers"),
        (npy(np.array([[1j]])), "must hold one array of numbers"),
        (npy(np.array([[True]])), "must hold one array of numbers"),
        (npy(np.zeros((2, 2), [("x", "f4")])), "must hold one array of numbers"),
        (npy(np.array([[{}]])), "must hold one array of numbers"),
    ],
)
def test_other_files_are_one_line(tmp_path, data, message):
    path = tmp_path / "a.npy"
    path.write_bytes(data)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", data)
    for read, name in ((load_samples, "a.npy"), (load_named_samples, "a.npz")):
        with pytest.raises(bmx.Error) as error:
            read(str(tmp_path / name))
        assert str(error.value).startswith(str(tmp_path / name)) and message in str(error.value)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        archive.writestr("x.npy", npy(np.zeros((1000, 1000))))
    with pytest.raises(bmx.Error, match="compressed otherwise than NumPy does; write it with numpy.savez"):
        load_named_samples(str(tmp_path / "a.npz"))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_arrays_of_one_name(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", npy(np.ones((2, 2))))
        archive.writestr("x", npy(np.ones((2, 2))))
    with pytest.raises(bmx.Error, match="has two arrays of the name 'x'"):
        load_named_samples(str(tmp_path / "a.npz"))


def test_an_archive_that_states_more_than_it_can_hold(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros((100, 100)))
    data = bytearray(path.read_bytes())
    place = data.rindex(b"PK\1\2") + 24  # the size in the directory at the end
    data[place : place + 4] = struct.pack("<I", 2**31)
    path.write_bytes(data)
    with pytest.raises(bmx.Error, match="it cannot hold the 2147483648 bytes that it states"):
        load_named_samples(str(path))


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")
    for name, reason in (("pipe.npy", "it is not a file"), (".", "it is not a file"), ("none.npz", "No such file")):
        with pytest.raises(bmx.Error, match=f"cannot be read: {reason}"):
            load_named_samples(str(tmp_path / name))


def test_damaged_files_are_one_line_or_what_numpy_reads(tmp_path):
    generator, read = random.Random(0), 0
    archive = io.BytesIO()
    np.savez_compressed(archive, x=np.arange(12.0).reshape(3, 4))
    for good, name in ((npy(np.arange(12.0).reshape(3, 4)), "a.npy"), (archive.getvalue(), "a.npz")):
        path = tmp_path / name
        for _ in range(400):
            path.write_bytes(mutated(good, generator))
            try:
                found = load_named_samples(str(path))
            except bmx.Error as error:
                assert "\n" not in str(error) and len(str(error)) < 400 + len(str(path))
                continue
            read += 1
            if name == "a.npy":
                with contextlib.suppress(ValueError, SyntaxError):  # NumPy minds blanks that are not ASCII
                    np.testing.assert_array_equal(found, np.load(path))
    assert read > 50


def test_classes():
    np.testing.assert_array_equal(check_classes(np.array([0.0, 2.0]), 3, "y"), [0, 2])
    for wrong in ([3], [-1], [0.5], [np.nan], [np.inf], ["a"]):
        with pytest.raises(bmx.Error, match="^y: must be classes from 0 to 2, as the network has outputs$"):
            check_classes(np.array(wrong), 3, "y")
