"""Weights that are computed of parameters are folded before they are packed."""

import mxnet as mx
import numpy as np
import pytest

import bmx

x = mx.sym.var("data")


def convert(tmp_path, symbol, **arrays):
    arrays = {name: mx.nd.array(array) for name, array in arrays.items()}
    mx.model.save_checkpoint(str(tmp_path / "net"), 1, symbol, arrays, {})
    report = bmx.convert_checkpoint(str(tmp_path / "net-0001.params"), data_shape=(4,))
    return report, mx.nd.load(report.params_path)


def dense(weight, name="fc", **attributes):
    return mx.sym.QFullyConnected(x, weight, num_hidden=3, no_offset=True, name=name, **attributes)


W = np.random.RandomState(4).normal(size=(3, 4)).astype(np.float32)


def test_a_computed_weight_is_packed_and_what_it_was_computed_of_is_left_out(tmp_path):
    report, arrays = convert(
        tmp_path,
        dense(mx.sym.broadcast_sub(mx.sym.var("w", shape=(3, 4)), mx.sym.var("m", shape=(3, 1)))),
        w=W,
        m=W[:, :1],
    )
    assert [row.is_packed for row in report.layers] == [True]
    assert list(arrays) == ["arg:fc_signs"]
    assert report.verification.largest_difference == 0


def test_what_other_layers_read_stays(tmp_path):
    w = mx.sym.var("w")
    net = mx.sym.Group([dense(w * -1), mx.sym.FullyConnected(x, w, num_hidden=3, no_bias=True, name="float")])
    _, arrays = convert(tmp_path, net, w=W)
    assert sorted(arrays) == ["arg:fc_signs", "arg:w"]


def test_names_that_are_taken_are_not_used_twice(tmp_path):
    net = mx.sym.Group([dense(mx.sym.var("fc_signs") * -1), dense(mx.sym.var("v") * -1, name="other")])
    report, arrays = convert(tmp_path, net, fc_signs=W, v=W)
    assert sorted(arrays) == ["arg:fc_signs2", "arg:other_signs"]
    assert report.verification.largest_difference == 0


def test_a_weight_that_depends_on_the_input_stays_and_the_report_says_so(tmp_path):
    net = mx.sym.Group(
        [dense(mx.sym.broadcast_mul(mx.sym.var("w", shape=(3, 4)), mx.sym.mean(x))), dense(mx.sym.var("v"), "plain")]
    )
    report, _ = convert(tmp_path, net, w=W, v=W)
    assert "its weight is computed by" in report.layers[0].note


@pytest.mark.parametrize("bits", [2, 32])
def test_weights_of_more_bits_are_left_alone(tmp_path, bits):
    net = mx.sym.Group([dense(mx.sym.var("w") * -1, weight_bit=bits), dense(mx.sym.var("v"), "plain")])
    _, arrays = convert(tmp_path, net, w=W, v=W)
    assert sorted(arrays) == ["arg:v", "arg:w"]
