"""The files that export writes, and what it refuses."""

import os
import re
import struct

import numpy as np
import pytest
from c_networks import every_kernel, oracle
from c_targets import GCC
from program_damage import sealed
from program_graphs import Builder

from bmx import program as programs
from bmx.cli import main
from bmx.compiler import ir
from bmx.compiler.lower import lower
from bmx.errors import Error
from bmx.export_c import export
from bmx.export_c.weights import pack_signs
from bmx.program.packing import pack_weights


def small(name="small"):
    b = Builder(2)
    b.nodes.append(ir.Input("data", [], [ir.Floats(ir.Value("x", (3, 4, 4)))], shape=(3, 4, 4)))
    return lower(b.graph([b.conv(b.nodes[0].stores[0].value, 5)["f32"]], name))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


FILES = {"net.h", "net.c", "net_weights.bin", "test_net.c", "Makefile", "CMakeLists.txt", "README.md"}


def test_the_same_network_gives_the_same_files(tmp_path):
    program = every_kernel()
    for folder, source in (("a", program), ("b", programs.decode(programs.encode(program)))):
        export(source, tmp_path / folder, run=oracle(program))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert set(contents(tmp_path / "a")) == FILES


def test_a_bmx_file_is_exported_with_references_of_the_engine(tmp_path):
    program = small()
    programs.write(program, tmp_path / "small.bmx")
    export(tmp_path / "small.bmx", tmp_path / "engine")
    export(program, tmp_path / "oracle", run=oracle(program))
    engine, wanted = contents(tmp_path / "engine"), contents(tmp_path / "oracle")
    assert set(engine) == FILES and all(engine[name] == wanted[name] for name in FILES - {"test_net.c"})
    numbers = re.compile(rb"-?[\d.]+(?:e-?\d+)?(?=f[,}])")
    found, expected = (np.array(numbers.findall(files["test_net.c"]), float) for files in (engine, wanted))
    assert len(found) >= 3 * 5 * 2 * 2 and len(set(found)) > 5
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_other_weights_of_the_same_network_need_no_other_code(tmp_path):
    program = small()
    export(program, tmp_path / "a", run=oracle(program))
    conv = next(step for step in program.steps if isinstance(step, programs.Conv))
    conv.weight = conv.weight + np.float32(1)
    export(program, tmp_path / "b", run=oracle(program))
    a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert a["net.c"] == b["net.c"] and a["net_weights.bin"] != b["net_weights.bin"]
    conv.epilogue.append(programs.Clip(0.0, 6.0))
    export(program, tmp_path / "c", run=oracle(program))
    c = contents(tmp_path / "c")
    assert a["net.c"] != c["net.c"] and a["net_weights.bin"][24:28] != c["net_weights.bin"][24:28]


def test_names_of_layers_do_not_matter(tmp_path):
    program = small("a */ b ??/ \\ \n $network")
    for step, name in zip(program.steps, ("*/ /* // \\", "exp", "fn", "net_conv $x", "")):
        step.name = name
    for tensor in program.tensors:
        tensor.name = "same"
    program.outputs[0].name = 'quote " %s'
    export(program, tmp_path, run=oracle(program))
    GCC.build(tmp_path, "net.c", "test_net.c")


def test_several_inputs_and_outputs_are_arguments_with_their_names(tmp_path):
    b = Builder(3)
    left, right = b.input((2, 3, 3)), b.input((2, 3, 3))
    total = b.map(left, [ir.Add(right)])["f32"]
    program = lower(b.graph([total, left]))
    program.inputs[0].name, program.inputs[1].name = "left-eye", "left eye"
    export(program, tmp_path, run=oracle(program))
    expected = "int net_run(const void *weights, void *scratch, const float *in_left_eye, const float *in_left_eye_2,"
    assert expected in " ".join((tmp_path / "net.h").read_text().split())


def test_binary_weights_are_bits(tmp_path):
    b = Builder(4)
    made = b.conv(b.input((64, 4, 4)), 32, signs=True)["f32"]
    report = export(lower(b.graph([made])), tmp_path, run=lambda inputs: [np.zeros((32, 2, 2))])
    assert report.weights < 32 * 64 * 9 / 8 * 1.4
    assert len(pack_signs(np.ones((9, 5, 1, 1), np.float32), 1, True)) == 2 * 2 * 4


@pytest.mark.parametrize("name", ["", "2nd", "a-b", "a b", "é", "_net", "int", "class", "Math", "stdio", "x" * 41])
def test_a_name_that_c_does_not_take_is_refused(name, tmp_path):
    with pytest.raises(Error, match="the name "):
        export(small(), tmp_path / "new", name, run=oracle(small()))
    assert not (tmp_path / "new").exists()


def test_existing_files_stay_unless_forced(tmp_path):
    program = small()
    (tmp_path / "net.c").write_text("mine")
    with pytest.raises(Error, match="net.c exists already; overwrite with --force"):
        export(program, tmp_path, run=oracle(program))
    assert contents(tmp_path) == {"net.c": b"mine"}
    export(program, tmp_path, force=True, samples=[np.zeros((2, 3, 4, 4))], run=oracle(program))
    assert set(contents(tmp_path)) == FILES | {"net_samples.bin"}
    export(program, tmp_path, weights="array", force=True, run=oracle(program))
    assert set(contents(tmp_path)) == FILES - {"net_weights.bin"} | {"net_weights.c"}
    (tmp_path / "file").write_text("")
    with pytest.raises(Error, match="this is a file; give a folder"):
        export(program, tmp_path / "file", force=True, run=oracle(program))


def test_a_failure_leaves_nothing(tmp_path):
    program = small()

    def fail(inputs):
        raise Error("the engine is not there")

    with pytest.raises(Error, match="the engine is not there"):
        export(program, tmp_path / "new", run=fail)
    with pytest.raises(Error, match="samples of 'data' have the shape"):
        export(program, tmp_path / "new", samples=[np.zeros((2, 3, 4, 5))], run=oracle(program))
    with pytest.raises(Error, match="samples for 2 inputs; the network has 1"):
        export(program, tmp_path / "new", samples=[np.zeros((2, 3, 4, 4))] * 2, run=oracle(program))
    assert os.listdir(tmp_path) == []


def test_what_is_not_a_compiled_network_is_refused(tmp_path):
    (tmp_path / "text.bmx").write_text("not one")
    with pytest.raises(Error, match="text.bmx"):
        export(tmp_path / "text.bmx", tmp_path / "new")
    program = small()
    program.steps.clear()
    program.outputs.clear()
    with pytest.raises(Error, match="the network has no output"):
        export(program, tmp_path / "new")


class Unknown(programs.Step):
    pass


def test_what_the_engine_refuses_is_refused_without_it(tmp_path, capsys):
    """A file with stores that overlap, and one with weights behind the last filter."""
    b = Builder()
    content = programs.encode(lower(b.graph([b.map(b.conv(b.input((3, 4, 4)), 5)["f32"])["f32"]])))
    tensors, data = (struct.unpack_from("<Q", content, at)[0] for at in (56, 104))
    packed = pack_weights(
        next(step.weight for step in programs.decode(content).steps if isinstance(step, programs.Conv)),
        "float",
        1,
        True,
    )
    last_weight = content.index(packed, data) + len(packed) - 4
    places = [struct.unpack_from("<Q", content, tensors + 80 * i + 40)[0] for i in range(3)]
    for place, form, value, reason in [
        (
            tensors + 80 * 2 + 40,
            "<Q",
            places[1],
            "step 2 Map 'map6': tensor 'v5', which it stores, overlaps tensor 'v3'",
        ),
        (last_weight, "<f", 1.0, "step 1 Conv 'conv4': its weights: bits that must be 0 are not 0"),
    ]:
        damaged = bytearray(content)
        struct.pack_into(form, damaged, place, value)
        (tmp_path / "net.bmx").write_bytes(sealed(damaged))
        assert main(["export-c", str(tmp_path / "net.bmx"), "-o", str(tmp_path / "net")]) == 1
        assert capsys.readouterr().err.splitlines()[-1].endswith(reason)
        assert not (tmp_path / "net").exists()


def test_a_step_that_there_is_no_c_for_is_named(tmp_path):
    program = small()
    program.steps.append(Unknown("attention"))
    with pytest.raises(Error, match="step 3 'attention': export-c cannot write a step Unknown"):
        export(program, tmp_path / "new", run=oracle(program))


def test_command(tmp_path, capsys):
    programs.write(small(), tmp_path / "small.bmx")
    np.save(tmp_path / "samples.npy", np.ones((3, 3, 4, 4), np.float32))
    folder = tmp_path / "out"
    arguments = ["export-c", str(tmp_path / "small.bmx"), "-o", str(folder), "--name", "tiny", "--weights", "array"]
    assert main([*arguments, "--samples", str(tmp_path / "samples.npy")]) == 0
    assert "scratch memory" in capsys.readouterr().out
    assert (folder / "tiny_samples.bin").stat().st_size == 3 * 4 * (3 * 4 * 4 + 5 * 2 * 2)
    assert main(arguments) == 1
    assert "overwrite with --force" in capsys.readouterr().err
    assert main([*arguments, "--force", "--int8", "all"]) == 1
    assert "is compiled already" in capsys.readouterr().err
    assert main(["export-c", str(tmp_path / "none.bmx"), "-o", str(tmp_path / "other")]) == 1
    assert main(["export-c", str(tmp_path / "small.bmx"), "-o", ""]) == 1
    assert "--output is empty; give the folder to write" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
