"""The reader of symbol files: all dialects, and nothing that would crash MXNet."""

import copy
import json

import mxnet as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bmx
from bmx.checkpoints.symbol_file import dump_graph, mxnet_message, parse_graph, read_graph, to_symbol


def network():
    net = mx.sym.Convolution(mx.sym.var("data"), kernel=(3, 3), num_filter=4, name="conv")
    net = mx.sym.BatchNorm(net, name="bn")
    parts = mx.sym.split(net, num_outputs=2, name="parts")
    return mx.sym.Group([parts[1], parts[0] + 1])


def content():
    return json.loads(network().tojson())


def dialect(name):
    """The network's JSON as other versions of MXNet wrote it."""
    result = content()
    result["attrs"]["mxnet_version"][1] = {"param": 800, "attr": 903, "attrs": 10000}[name]
    for node in result["nodes"]:
        if "attrs" in node:
            node[name] = node.pop("attrs")
    if name == "param":
        del result["attrs"], result["node_row_ptr"]
        for node in result["nodes"]:
            node["inputs"] = [entry[:2] for entry in node["inputs"]]
            node["backward_source_id"] = -1
    return result


@pytest.mark.parametrize("name", ["param", "attr", "attrs"])
def test_dialects(name):
    graph = parse_graph(dialect(name), "x")
    assert graph.attribute_key == ("attrs" if name == "attrs" else "attr")
    assert graph.variables()["conv_weight"].is_variable
    symbol = to_symbol(graph, "x")
    assert symbol.list_arguments() == network().list_arguments()
    assert symbol.list_auxiliary_states() == network().list_auxiliary_states()
    shapes = symbol.infer_shape(data=(2, 3, 8, 8))
    assert shapes == network().infer_shape(data=(2, 3, 8, 8))


@pytest.mark.parametrize("name", ["attr", "attrs"])
def test_writes_what_it_read(name, tmp_path):
    before = dialect(name)
    (tmp_path / "net-symbol.json").write_text(json.dumps(before))
    assert json.loads(dump_graph(read_graph(str(tmp_path / "net-symbol.json")))) == before


def test_variables_of_one_name_are_one_variable():
    weights = [mx.sym.var("w") for _ in range(2)]
    net = mx.sym.Group([mx.sym.Convolution(w, kernel=(1, 1), num_filter=1, no_bias=True, weight=w) for w in weights])
    graph = parse_graph(json.loads(net.tojson()), "x")
    assert to_symbol(graph, "x").list_arguments() == ["w"]


def test_published_file(shared):
    path = shared / "models" / "binarized_mnist_32bit-symbol.json"
    assert json.loads(dump_graph(read_graph(str(path)))) == json.loads(path.read_text())


def change(path, value):
    """The network's JSON with one place changed."""
    result = content()
    place = result
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return result


CONV = next(i for i, node in enumerate(content()["nodes"]) if node["name"] == "conv")


@pytest.mark.parametrize(
    "bad",
    [
        None,
        [],
        {},
        {"nodes": []},
        {"nodes": [], "heads": []},
        {"nodes": [], "heads": [[0, 0, 0]]},
        change(["heads"], []),
        change(["heads"], [[99, 0, 0]]),
        change(["heads"], [["0", 0, 0]]),
        change(["heads"], [0]),
        change(["attrs"], []),
        change(["attrs", "mxnet_version"], ["str", "new"]),
        change(["nodes", 0], 3),
        change(["nodes", 0, "op"], 3),
        change(["nodes", 0, "name"], None),
        change(["nodes", 0, "inputs"], [[0, 0, 0]]),
        change(["nodes", 0, "extra"], "field"),
        change(["nodes", CONV, "inputs"], None),
        change(["nodes", CONV, "inputs", 0], [CONV, 0, 0]),
        change(["nodes", CONV, "inputs", 0], [CONV + 1, 0, 0]),
        change(["nodes", CONV, "inputs", 0], [-1, 0, 0]),
        change(["nodes", CONV, "inputs", 0], [True, 0, 0]),
        change(["nodes", CONV, "attrs"], {"kernel": 3}),
        change(["nodes", CONV, "control_deps"], [99]),
        change(["nodes", CONV, "subgraphs"], [{"nodes": 1}]),
        # these make MXNet 1.9.1 crash
        change(["heads"], [[CONV, 7, 0]]),
        change(["nodes", CONV, "inputs", 0], [0, 9, 0]),
        # and these it refuses itself
        change(["nodes", CONV, "op"], "NoSuchOperator"),
        change(["nodes", CONV, "attrs", "kernel"], "three"),
    ],
)
def test_bad_graphs_are_errors(bad):
    with pytest.raises(bmx.Error, match="^net-symbol.json: ") as error:
        to_symbol(parse_graph(bad, "net-symbol.json"), "net-symbol.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("shape", ["(0", "abc", "", "(-5, 3)", "(1e3,)", "('a',)", "(9999999999999999999,)", "[1,2"])
def test_shapes_that_are_none_are_errors(shape):
    graph = content()
    graph["nodes"][0]["attrs"] = {"__shape__": shape}
    with pytest.raises(bmx.Error, match=r"^x: .*node 0 \('data'\): __shape__ is .*; it must be sizes such as"):
        parse_graph(graph, "x")


@pytest.mark.parametrize("shape", ["(1, 3, 8, 8)", "(0,3, 8,8)", "[1,3,8,8]", "(-1, 3L, -1, -1)", "()", "None"])
def test_shapes_that_mxnet_reads(shape):
    graph = content()
    graph["nodes"][0]["attrs"] = {"__shape__": shape}
    to_symbol(parse_graph(graph, "x"), "x").infer_shape_partial()


def test_text_that_is_not_json(tmp_path):
    path = tmp_path / "net-symbol.json"
    for text in (b"", b"{", b"\xff\xfe", b"[" * 100_000, b'{"nodes": [' + b'{"subgraphs": [' * 20_000):
        path.write_bytes(text)
        with pytest.raises(bmx.Error, match="net-symbol.json: not valid JSON"):
            read_graph(str(path))


def test_nested_subgraphs():
    graph = content()
    for _ in range(5000):
        graph = {"nodes": [{"op": "null", "name": "x", "inputs": [], "subgraphs": [graph]}], "heads": [[0, 0, 0]]}
    with pytest.raises(bmx.Error, match="too deep"):
        parse_graph(graph, "x")


@pytest.mark.parametrize(
    "op, attributes, count, wanted",
    [("BatchNorm", {}, 0, 5), ("Embedding", {"input_dim": "3", "output_dim": "2"}, 1, 2), ("elemwise_add", {}, 1, 2)],
)
def test_operators_without_all_of_their_inputs(op, attributes, count, wanted):
    """With the first two of these MXNet crashes when shapes are asked for."""
    nodes = [{"op": "null", "name": "x", "inputs": []}]
    nodes.append({"op": op, "name": "y", "attrs": attributes, "inputs": [[0, 0, 0]] * count})
    graph = {"nodes": nodes, "heads": [[1, 0, 0]], "attrs": {"mxnet_version": ["int", 10901]}}
    with pytest.raises(bmx.Error, match=f"net.json: .*'y' \\({op}\\) takes {wanted} inputs, and has {count}"):
        to_symbol(parse_graph(graph, "net.json"), "net.json")


def _split(index):
    """A symbol file whose head is an output of a split in three."""
    nodes = [{"op": "null", "name": "x", "inputs": []}]
    nodes.append({"op": "SliceChannel", "name": "s", "attrs": {"num_outputs": "3"}, "inputs": [[0, 0, 0]]})
    return {"nodes": nodes, "heads": [[1, index, 0]], "attrs": {"mxnet_version": ["int", 10901]}}


@pytest.mark.parametrize("index", [3, 4, 100])
def test_an_output_that_an_operator_does_not_have_is_an_error(index):
    with pytest.raises(bmx.Error, match=f"x: not a symbol file of MXNet: 's' has no output {index}"):
        to_symbol(parse_graph(_split(index), "x"), "x")


@pytest.mark.parametrize("index", [0, 1, 2])
def test_every_output_of_an_operator_can_be_a_head(index):
    assert to_symbol(parse_graph(_split(index), "x"), "x").list_outputs() == [f"s_output{index}"]


def test_messages_of_mxnet_are_without_time_and_line_of_its_source():
    message = (
        "Traceback (most recent call last):\n  File a\nMXNetError: Error in operator conv: [15:16:30] ../src/a.cc:151: "
    )
    assert (
        mxnet_message(mx.MXNetError(message + "Check failed: x < y ")) == "Error in operator conv: Check failed: x < y"
    )


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_random_changes_never_crash(data):
    """A number or text replaced anywhere: an error, or a symbol that can be asked for everything."""
    changed = copy.deepcopy(content())
    to_symbol(parse_graph(changed, "x"), "x")

    def places(value):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield value, key
            if isinstance(value[key], (dict, list)):
                yield from places(value[key])

    holder, key = data.draw(st.sampled_from(list(places(changed))))
    holder[key] = data.draw(st.integers(-1, 12) | st.sampled_from([None, "", "data", "null", [], {}, 2**40, 1.5]))
    try:
        symbol = to_symbol(parse_graph(changed, "x"), "x")
    except bmx.Error:
        return
    symbol.list_outputs(), symbol.get_internals().list_outputs(), symbol.tojson()
    try:
        symbol.infer_shape(data=(1, 3, 8, 8))
    except (mx.base.MXNetError, TypeError, ValueError):
        pass
