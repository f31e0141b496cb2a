"""Packed weights keep every bit whatever trains the network around them, or training is refused before it begins."""

import mxnet as mx
import numpy as np
import pytest

import bmx
from bmx.checkpoints.loading import to_ndarray
from bmx.plugin.packed_words import packed_variables

UNSIGNED = {np.dtype("float32"): np.uint32, np.dtype("float64"): np.uint64}
# Bits that arithmetic would change even if nothing were added: a signalling NaN, -0, a denormal, infinity.
DELICATE = (0x7F800001, 0x80000000, 0x00000001, 0x7F800000)


def network():
    """A float layer, two packed layers and a float layer, for (N, 3, 4, 4)."""
    x = mx.sym.Convolution(mx.sym.Variable("data"), num_filter=32, kernel=(1, 1), name="first")
    packed = {"binarized_weights_only": True}
    x = mx.sym.QConvolution(mx.sym.BatchNorm(x, name="norm"), num_filter=64, kernel=(3, 3), name="conv", **packed)
    x = mx.sym.QFullyConnected(mx.sym.BatchNorm(x, name="norm2"), num_hidden=32, name="dense", **packed)
    return mx.sym.SoftmaxOutput(mx.sym.FullyConnected(x, num_hidden=4, name="last"), name="softmax")


def words(bits=32):
    """Words of the two packed layers, with every pattern that is delicate as a number."""
    random, kind = np.random.RandomState(0), {32: np.uint32, 64: np.uint64}[bits]
    shapes = {"conv_weight": (64, 1, 3, 3) if bits == 32 else (64, 5), "dense_weight": (32, 256 // bits)}
    made = {
        name: random.randint(0, 256, (*shape, bits // 8), np.uint8).view(kind)[..., 0] for name, shape in shapes.items()
    }
    made["conv_weight"].ravel()[: len(DELICATE)] = DELICATE
    if bits == 64:
        made["conv_weight"][:, -1] &= (1 << 32) - 1  # rows of 288 bits
    return made


def arrays(bits=32):
    return {name: to_ndarray(array.view({32: np.float32, 64: np.float64}[bits])) for name, array in words(bits).items()}


def bits_of(array):
    array = array.asnumpy()
    return array.view(UNSIGNED[array.dtype])


def assert_kept(found, bits=32):
    for name, array in words(bits).items():
        np.testing.assert_array_equal(bits_of(found[name]), array, err_msg=name)


def data(count=8):
    random = np.random.RandomState(1)
    return random.standard_normal((count, 3, 4, 4)).astype("f"), random.randint(0, 4, count).astype("f")


def typed(symbol, bits):
    """The symbol with the type of its packed weights declared, as bmx.convert_checkpoint writes it."""
    for name, array in arrays(bits).items():
        symbol.get_internals()[name]._set_attr(__shape__=str(array.shape), __dtype__="0" if bits == 32 else "1")
    return symbol


OPTIMIZERS = [
    ("sgd", {"wd": 0.0}),
    ("sgd", {"wd": 1e-2}),
    ("sgd", {"wd": 1e-2, "momentum": 0.9}),
    ("adam", {"wd": 1e-2}),
    ("lbsgd", {"wd": 1e-2, "momentum": 0.9}),
    ("signum", {"wd": 1e-2}),
    ("ftrl", {"wd": 1e-2}),
]


@pytest.mark.parametrize("name, options", OPTIMIZERS)
@pytest.mark.parametrize("kvstore", [None, "local"])
def test_module_trains_the_other_layers_only(name, options, kvstore):
    module = mx.mod.Module(network())
    iterator = mx.io.NDArrayIter(*data(), 4)
    module.fit(
        iterator,
        num_epoch=2,
        optimizer=name,
        optimizer_params={"learning_rate": 0.1, **options},
        initializer=mx.init.Xavier(),
        arg_params=arrays(),
        allow_missing=True,
        kvstore=kvstore,
    )
    first = module._exec_group.execs[0]
    assert_kept(first.arg_dict)
    assert first.grad_dict["conv_weight"] is None
    assert np.abs(first.grad_dict["first_weight"].asnumpy()).max() > 0
    assert_kept(module.get_params()[0])


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("fixed", [None, ["first_weight", "conv_weight"]])
def test_words_survive_modules_of_several_devices_frozen_layers_and_their_files(tmp_path, bits, fixed):
    module = mx.mod.Module(typed(network(), bits), context=[mx.cpu(0), mx.cpu(1)], fixed_param_names=fixed)
    options = {"learning_rate": 0.1, "wd": 0.1, "momentum": 0.9}
    module.fit(
        mx.io.NDArrayIter(*data(), 4),
        num_epoch=1,
        optimizer_params=options,
        initializer=mx.init.Xavier(),
        arg_params=arrays(bits),
        allow_missing=True,
    )
    module.save_checkpoint(str(tmp_path / "net"), 1)
    assert_kept(mx.model.load_checkpoint(str(tmp_path / "net"), 1)[1], bits)


def test_gradients_of_other_layers_can_be_added_up():
    module = mx.mod.Module(network())
    module.bind([("data", (4, 3, 4, 4))], [("softmax_label", (4,))], for_training=True, grad_req="add")
    module.init_params(mx.init.Xavier(), arg_params=arrays(), allow_missing=True)
    gradients = module._exec_group.execs[0].grad_dict
    assert [name for name, array in gradients.items() if array is None] == [
        *("data", "conv_weight", "dense_weight", "softmax_label")
    ]


def imported(tmp_path, bits=32):
    """The network as a block, of files."""
    symbol = typed(network(), bits).get_internals()["last_output"]
    shapes, _, aux_shapes = symbol.infer_shape(data=(1, 3, 4, 4))
    random = np.random.RandomState(2)
    args = {name: mx.nd.array(random.standard_normal(shape)) for name, shape in zip(symbol.list_arguments(), shapes)}
    args = {**args, **arrays(bits)}
    del args["data"]
    aux = {name: mx.nd.ones(shape) for name, shape in zip(symbol.list_auxiliary_states(), aux_shapes)}
    mx.model.save_checkpoint(str(tmp_path / "net"), 0, symbol, args, aux)
    return mx.gluon.SymbolBlock.imports(str(tmp_path / "net-symbol.json"), "data", str(tmp_path / "net-0000.params"))


@pytest.mark.parametrize("name, options", OPTIMIZERS)
@pytest.mark.parametrize("bits", [32, 64])
def test_gluon_trains_the_other_layers_only(tmp_path, name, options, bits):
    net = imported(tmp_path, bits)
    net.collect_params(".*(weight|bias|gamma|beta)").setattr("grad_req", "add")  # as accumulating gradients wants it
    before = net.params["first_weight"].data().asnumpy()
    trainer = mx.gluon.Trainer(net.collect_params(), name, {"learning_rate": 0.1, **options})
    images, labels = map(mx.nd.array, data())
    for _ in range(2):
        with mx.autograd.record():
            loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()(net(images), labels)
        loss.backward()
        trainer.step(8)
    assert np.abs(net.params["first_weight"].data().asnumpy() - before).max() > 0
    assert_kept({name: net.params[name].data() for name in words()}, bits)
    net.save_parameters(str(tmp_path / "saved"))
    assert_kept(mx.nd.load(str(tmp_path / "saved")), bits)


def test_words_of_a_block_stay_when_it_is_cast_or_lives_on_several_devices(tmp_path):
    net = imported(tmp_path)
    net.cast("float64")
    assert net.params["first_weight"].dtype == "float64"
    net.collect_params().reset_ctx([mx.cpu(0), mx.cpu(1)])
    net.save_parameters(str(tmp_path / "saved"))
    assert_kept(mx.nd.load(str(tmp_path / "saved")))


class Packed(mx.gluon.HybridBlock):
    """A layer of somebody else, on packed words."""

    def __init__(self, **keywords):
        super().__init__(**keywords)
        with self.name_scope():
            self.weight = self.params.get("weight", shape=(4, 1))

    def hybrid_forward(self, F, x, weight):
        return F.QFullyConnected(x, weight, num_hidden=4, binarized_weights_only=True)


def test_own_blocks_keep_words_when_hybridized_and_are_refused_when_not():
    x = mx.nd.ones((2, 32))
    for hybridized in (True, False):
        net = Packed()
        net.initialize()
        net.weight.set_data(mx.nd.array(np.array(DELICATE, np.uint32).view(np.float32).reshape(4, 1)))
        net.hybridize(hybridized)
        trainer = mx.gluon.Trainer(net.collect_params(), "sgd", {"learning_rate": 0.1, "wd": 0.1})
        x.attach_grad()
        if hybridized:
            with mx.autograd.record():
                loss = net(x).sum()
            loss.backward()
            trainer.step(2)
        else:
            with pytest.raises(bmx.Error, match=r"QFullyConnected: weight holds packed bits.*unpack_checkpoint"):
                with mx.autograd.record():
                    net(x)
        assert bits_of(net.weight.data()).ravel().tolist() == list(DELICATE)


def test_bind_refuses_arrays_for_gradients_of_words_and_gives_others_theirs():
    symbol = mx.sym.QFullyConnected(mx.sym.Variable("x"), num_hidden=4, binarized_weights_only=True, name="dense")
    given = {"x": mx.nd.ones((2, 32)), "dense_weight": mx.nd.zeros((4, 1))}
    gradients = {name: mx.nd.zeros(array.shape) for name, array in given.items()}
    for refused in (gradients, [gradients["x"], gradients["dense_weight"]]):
        with pytest.raises(bmx.Error, match=r"bind: the argument 'dense_weight' holds packed bits.*unpack_checkpoint"):
            symbol.bind(mx.cpu(), given, refused)
    wanted = {"x": "write", "dense_weight": "null"}
    for allowed, request in ((gradients, wanted), ({"x": gradients["x"]}, "write")):
        executor = symbol.bind(mx.cpu(), given, allowed, request)
        executor.forward(is_train=True)
        executor.backward(mx.nd.ones((2, 4)))
        assert gradients["x"].asnumpy().tolist() == np.full((2, 32), -4.0).tolist()
    assert symbol.bind(mx.cpu(), given).forward()[0].shape == (2, 4)


@pytest.mark.parametrize("request_", ["write", ["write", "write"], {"x": "write", "dense_weight": "add"}])
def test_simple_bind_makes_no_gradient_of_words(request_):
    symbol = mx.sym.QFullyConnected(mx.sym.Variable("x"), num_hidden=4, binarized_weights_only=True, name="dense")
    executor = symbol.simple_bind(mx.cpu(), request_, x=(2, 32))
    assert executor.grad_dict["dense_weight"] is None
    assert executor.grad_dict["x"].shape == (2, 32)
    assert executor.reshape(x=(1, 32)).grad_dict["dense_weight"] is None


def test_words_that_a_node_reshapes_first_are_found_and_latent_weights_are_not():
    flat = mx.sym.Reshape(mx.sym.Variable("flat"), shape=(4, 1))
    packed = mx.sym.QFullyConnected(
        mx.sym.Variable("x"), flat, num_hidden=4, binarized_weights_only=True, name="packed"
    )
    latent = mx.sym.QFullyConnected(packed, num_hidden=4, name="latent")
    assert packed_variables(latent) == ["flat"]
