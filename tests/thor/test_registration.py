"""Conversion: same outputs, parameters, names and checkpoints; one row of the table for each parameter."""
from __future__ import annotations

from textwrap import dedent

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor, nn, ops

from tests.helpers.layer_cases import CASES
from thor import THOR, ConvertNetUtils, CurvatureOptions
from thor.layers import Tap
from thor.registration import tap_network

pytestmark = pytest.mark.usefixtures("pynative")

FOLDED = CurvatureOptions(split_dim=3, fold_bias=True, batchnorm_blocks=True)


def normal(*shape, seed=0):
    return Tensor(np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32))


class Small(nn.Cell):
    """One of each layer."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, (3, 2), stride=2, group=1, has_bias=True)
        self.bn = nn.BatchNorm2d(4)
        self.embed = nn.Embedding(6, 8)
        self.norm = nn.LayerNorm((8,))
        self.act = nn.PReLU(4)
        self.head = nn.Dense(24, 3)
        self.scale = Parameter(Tensor(1.5, ms.float32), name="scale")

    def construct(self, images, ids):
        features = self.act(self.bn(self.conv(images))).reshape(2, -1)
        words = self.norm(self.embed(ids)).reshape(2, -1)
        return self.head(ops.concat((features, words), axis=1)) * self.scale


SMALL_INPUTS = (normal(2, 1, 4, 3), Tensor(np.int32([[1], [5]])))


def small():
    ms.set_seed(3)
    return Small()


def rows(registration):
    """The table as ``{parameter: update}``."""
    lines = [line.split(None, 2) for line in registration.table().splitlines()[1:]]
    assert len({name for name, _, _ in lines}) == len(lines)
    return {name: update for name, _, update in lines}


def test_table_of_a_small_network():
    network = small()
    network.conv.bias.requires_grad = False
    optimizer = THOR(network, 0.1, 0.1, 0.9, split_dim=5)
    assert optimizer.registration_table() == dedent("""\
        parameter              shape    update
        scale                           first order: no tap registered for Small
        conv.weight            4x1x3x2  second order: A 2x5x5, G 1x4x4
        bn.gamma               4        first order: BatchNorm, set batchnorm_blocks=True for unit-wise blocks
        bn.beta                4        first order: BatchNorm, set batchnorm_blocks=True for unit-wise blocks
        embed.embedding_table  6x8      second order: A 6, G 2x5x5
        norm.gamma             8        second order: squared gradient
        norm.beta              8        second order: squared gradient
        act.w                  4        first order: no tap registered for PReLU
        head.weight            3x24     second order: A 5x5x5, G 1x3x3
        head.bias              3        first order: bias""")


@pytest.mark.parametrize("options", [CurvatureOptions(), FOLDED])
def test_table_names_every_trainable_parameter_once(options):
    network = small()
    trainable = [p.name for p in network.trainable_params()]
    assert list(rows(tap_network(network, options))) == trainable


@pytest.mark.parametrize("options", [CurvatureOptions(), FOLDED])
@pytest.mark.parametrize("training", [True, False])
def test_outputs_parameters_and_names_stay(options, training):
    network = small().set_train(training)
    before = network(*SMALL_INPUTS).asnumpy().copy()
    parameters = list(network.parameters_and_names())
    for _, parameter in parameters:  # training moved BatchNorm's averages
        if "moving" in parameter.name:
            parameter.set_data(Tensor(np.full(parameter.shape, "variance" in parameter.name, np.float32)))
    tap_network(network, options)
    np.testing.assert_array_equal(network(*SMALL_INPUTS).asnumpy(), before)
    kept = {name: parameter for name, parameter in network.parameters_and_names() if "factor_" not in name}
    assert list(kept) == [name for name, _ in parameters]
    assert all(kept[name] is parameter and parameter.name == name for name, parameter in parameters)


def test_outputs_stay_for_every_layer():
    for case in CASES.values():
        x, _ = case.batch()
        plain, tapped = case.create().set_train(), case.create().set_train()
        tap_network(tapped, FOLDED)
        expected = plain(Tensor(x)).asnumpy()
        np.testing.assert_array_equal(tapped(Tensor(x)).asnumpy(), expected, err_msg=case.name)


def test_outputs_stay_in_graph_mode():
    ms.set_context(mode=ms.GRAPH_MODE)
    plain, tapped = small().set_train(), small().set_train()
    tap_network(tapped)
    np.testing.assert_array_equal(tapped(*SMALL_INPUTS).asnumpy(), plain(*SMALL_INPUTS).asnumpy())


def test_checkpoints_go_both_ways(tmp_path):
    plain, tapped = small(), small()
    for parameter in tapped.get_parameters():
        parameter.set_data(parameter + 1.0)
    tap_network(tapped)
    ms.save_checkpoint(plain, str(tmp_path / "plain.ckpt"))
    missing, unused = ms.load_param_into_net(tapped, ms.load_checkpoint(str(tmp_path / "plain.ckpt")))
    assert unused == [] and all(".factor_" in name for name in missing)
    kept = [p for p in tapped.get_parameters() if "factor_" not in p.name]
    for ours, theirs in zip(kept, plain.get_parameters(), strict=True):
        np.testing.assert_array_equal(ours.asnumpy(), theirs.asnumpy())
    tapped.scale.set_data(Tensor(7.0))
    ms.save_checkpoint(tapped, str(tmp_path / "tapped.ckpt"))
    missing, unused = ms.load_param_into_net(plain, ms.load_checkpoint(str(tmp_path / "tapped.ckpt")))
    assert missing == [] and unused == []
    assert plain.scale.asnumpy() == 7.0


@pytest.mark.parametrize("root, names", [
    (lambda: nn.Dense(3, 2), {"weight", "bias"}),
    (lambda: nn.Conv2d(1, 2, 3), {"weight"}),
    (lambda: nn.Embedding(3, 2), {"embedding_table"}),
])
def test_a_bare_layer_is_the_root(root, names):
    network = root()
    registration = tap_network(network)
    assert set(rows(registration)) == names
    assert [layer.weight.name for layer in registration.layers] == [next(iter(network.get_parameters())).name]
    assert {p.name for p in network.trainable_params()} == names


class Plain(nn.Dense):
    """A subclass that changes nothing."""


class Scaled(nn.Dense):
    """A subclass with a construct of its own."""

    def construct(self, x):
        return 2.0 * self.bias_add(self.matmul(x, self.weight), self.bias)


class PaddedConv(nn.Conv2d):
    """A convolution with a construct of its own."""

    def construct(self, x):
        return self.conv2d(ops.pad(x, (1, 1, 1, 1)), self.weight)


@pytest.mark.parametrize("cell, shape", [
    (lambda: Plain(4, 3), (2, 4)),
    (lambda: Scaled(4, 3), (2, 4)),
    (lambda: PaddedConv(1, 2, 3, pad_mode="valid"), (2, 1, 3, 3)),
])
def test_subclasses_are_tapped_in_place(cell, shape):
    network, x = cell(), normal(*shape)
    before = network(x).asnumpy().copy()
    registration = tap_network(network)
    assert len(registration.layers) == 1
    np.testing.assert_array_equal(network(x).asnumpy(), before)


def test_a_cell_registered_twice_is_one_layer():
    class Net(nn.Cell):
        def __init__(self):
            super().__init__()
            self.one = nn.Dense(2, 2)
            self.other = self.one
            self.many = nn.CellList([self.one, nn.Dense(2, 2)])

    registration = tap_network(Net())
    assert len(registration.layers) == 2 and [len(layer.taps) for layer in registration.layers] == [1, 1]


def pair_of(first, second):
    class Net(nn.Cell):
        def __init__(self):
            super().__init__()
            self.first, self.second = first, second

    return Net()


def test_frozen_weight_and_frozen_bias():
    network = pair_of(nn.Dense(2, 2), nn.Dense(2, 2))
    network.first.weight.requires_grad = False
    network.second.bias.requires_grad = False
    assert rows(tap_network(network, CurvatureOptions(fold_bias=True))) == {
        "first.bias": "first order: bias", "second.weight": "second order: A 1x2x2, G 1x2x2"}


@pytest.mark.parametrize("cell, frozen, trained, update", [
    (lambda: nn.LayerNorm((2,)), "gamma", "beta", "first order: LayerNorm with gamma frozen"),
    (lambda: nn.LayerNorm((2,)), "beta", "gamma", "second order: squared gradient"),
    (lambda: nn.BatchNorm2d(2), "gamma", "beta", "first order: BatchNorm2d with gamma frozen"),
    (lambda: nn.BatchNorm2d(2), "beta", "gamma", "first order: BatchNorm with gamma or beta frozen"),
])
def test_half_frozen_norms_train_what_is_left(cell, frozen, trained, update):
    network = cell()
    getattr(network, frozen).requires_grad = False
    optimizer = THOR(network, 1.0, 0.25, 0.0, batch_size=4, batchnorm_blocks=True)
    assert rows(optimizer.registration) == {trained: update}
    parameter = getattr(network, trained)
    before = parameter.asnumpy().copy()
    optimizer((Tensor(np.float32([2.0, -4.0])),))
    expected = [2 / (4 / 4 + 0.5), -4 / (16 / 4 + 0.5)] if "second" in update else [2.0, -4.0]
    np.testing.assert_allclose(before - parameter.asnumpy(), expected, rtol=1e-6)


def test_ties_between_unlike_layers_train_first_order():
    network = pair_of(nn.Conv2d(2, 3, 1), nn.Dense(2, 3, has_bias=False))
    network.second.weight = network.first.weight
    registration = tap_network(network)
    assert registration.layers == []
    assert rows(registration) == {"first.weight": "first order: tied between Conv2d and Dense"}
    assert not [cell for _, cell in network.cells_and_names() if isinstance(cell, Tap)]


def test_ties_between_like_layers_say_how_often_they_are_used():
    network = pair_of(nn.Dense(2, 2), nn.Dense(2, 2))
    network.second.weight = network.first.weight
    table = rows(tap_network(network))
    assert table["first.weight"] == "second order: A 1x2x2, G 1x2x2, 2 uses"
    assert set(table) == {"first.weight", "first.bias", "second.bias"}


def test_idempotent_and_shared_with_the_optimizer():
    network = small()
    assert ConvertNetUtils().convert_to_thor_net(network) is None
    names = [p.name for p in network.get_parameters()]
    first = tap_network(network)
    assert tap_network(network) is first
    assert THOR(network, 0.1, 0.1, 0.9).registration is first
    assert [p.name for p in network.get_parameters()] == names


def test_tapping_again_with_other_options():
    network = small().set_train(False)
    before = network(*SMALL_INPUTS).asnumpy().copy()
    tap_network(network)
    registration = tap_network(network, CurvatureOptions(split_dim=3, fold_bias=True))
    assert rows(registration)["head.weight"] == "second order: A 9x3x3, G 1x3x3"  # 25 columns with the bias
    names = [p.name for p in network.get_parameters()]
    assert len(names) == len(set(names))
    taps = [cell for _, cell in network.cells_and_names() if isinstance(cell, Tap)]
    assert len(taps) == 3 and not [tap for tap in taps if isinstance(tap.operator, Tap)]
    np.testing.assert_array_equal(network(*SMALL_INPUTS).asnumpy(), before)


def test_freezing_a_layer_after_conversion_is_noticed():
    network = pair_of(nn.Dense(2, 2), nn.Dense(2, 2))
    tap_network(network)
    network.first.weight.requires_grad = False
    optimizer = THOR(network, 0.1, 0.1, 0.9)
    assert list(rows(optimizer.registration)) == ["first.bias", "second.weight", "second.bias"]
    assert not [p for p in optimizer.parameters if p.name.startswith("first.factor")]


def test_a_converted_part_of_a_larger_network():
    part = nn.Dense(2, 2)
    network = pair_of(part, nn.Dense(2, 2))
    tap_network(part)
    whole = tap_network(network)
    assert [layer.weight.name for layer in whole.layers] == ["first.weight", "second.weight"]
    again = tap_network(part)  # which is now tapped as a part of the network
    assert [cell for _, cell in part.cells_and_names() if isinstance(cell, Tap)] == again.layers[0].taps


@pytest.mark.parametrize("wrong", [None, "net", nn.Dense])
def test_only_cells_are_converted(wrong):
    for convert in (tap_network, ConvertNetUtils().convert_to_thor_net, lambda net: THOR(net, 0.1, 0.1, 0.9)):
        with pytest.raises(TypeError, match="^net=.*must be a mindspore.nn.Cell; pass the network"):
            convert(wrong)


def test_conversion_keeps_the_options_of_an_earlier_one():
    network = small()
    optimizer = THOR(network, 0.1, 0.1, 0.9, split_dim=3)
    ConvertNetUtils.convert_to_thor_net(network)
    assert tap_network(network, CurvatureOptions(split_dim=3)) is optimizer.registration
