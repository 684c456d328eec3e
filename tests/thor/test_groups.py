"""Groups of parameters in THOR: rates, decays and schedules of their own, against float64, and what is refused."""
from __future__ import annotations

import re
from pathlib import Path

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest
from mindspore import Model, Parameter, Tensor, nn, ops
from mindspore.nn.learning_rate_schedule import ExponentialDecayLR
from mindspore.train import LearningRateScheduler

from tests.helpers import group_cases as cases
from tests.helpers.training_cases import Sink
from thor import THOR, ConvertModelUtils, thor
from thor.companions import kfac, spngd
from thor.train import make_train_step

STEPS = 5  # three refreshes; every schedule ends before the last


def run(step, batches):
    for x, y in batches:
        step(Tensor(x), Tensor(y))


def assert_follows(created, expected):
    network, with_loss, optimizer = created
    step, expected = make_train_step(with_loss, optimizer), list(expected)
    for batch, wanted in zip(cases.arrays(len(expected)), expected):
        run(step, [batch])
        cases.assert_close(network, wanted)


@pytest.mark.parametrize("nesterov", [False, True], ids=["momentum", "nesterov"])
def test_steps_follow_the_equations(pynative, nesterov):
    """Compiled, see ``test_a_converted_model_follows_the_equations``."""
    assert_follows(cases.create(use_nesterov=nesterov), cases.trained(STEPS, nesterov=nesterov))


def test_clip_comes_between_decay_and_the_groups_rate(pynative):
    assert_follows(cases.create(enable_clip_grad=True), cases.trained(STEPS, clip=True))


def test_loss_scale_changes_neither_rates_nor_decays(pynative):
    network, with_loss, optimizer = cases.create(loss_scale=64.0)
    run(make_train_step(with_loss, optimizer, 64.0), cases.arrays(STEPS))
    cases.assert_close(network, list(cases.trained(STEPS))[-1])


DECAYS = {
    "list": ([0.3, 0.2, 0.0], lambda step: cases.held([0.3, 0.2, 0.0], step)),
    "tensor": (Tensor([0.3, 0.2], ms.float32), lambda step: cases.held([0.3, 0.2], step)),
    "schedule": (ExponentialDecayLR(0.3, 0.5, 2), lambda step: 0.3 * 0.5 ** (step / 2)),
    "cell": (cases.HalvedDecay(), lambda step: 0.08 / 2 ** step),
}


@pytest.mark.parametrize("kind", DECAYS)
def test_weight_decay_by_step(pynative, kind):
    decay, by_step = DECAYS[kind]
    created = cases.create(weight_decay=decay, groups=None, decay_filter=lambda p: p.name == "second.weight")
    assert_follows(created, cases.trained(4, lambda name, step: cases.held(cases.RATES, step),
                                          lambda name, step: by_step(step) if name == "second.weight" else 0.0))


def test_groups_with_weight_decay_of_every_kind(pynative):
    by_name = dict(zip(cases.start(), DECAYS.values(), strict=True))
    groups = [{"params": [name], "weight_decay": decay} for name, (decay, _) in by_name.items()]
    assert_follows(cases.create(weight_decay=0.0, groups=groups, decay_filter=lambda p: True), cases.trained(
        4, lambda name, step: cases.held(cases.RATES, step), lambda name, step: by_name[name][1](step)))


@pytest.mark.slow
def test_a_data_sink_gives_the_same_weights():
    network, with_loss, optimizer = cases.create()
    run(Sink(make_train_step(with_loss, optimizer)), cases.arrays(STEPS))
    cases.assert_close(network, list(cases.trained(STEPS))[-1])


def train_converted(network, optimizer, count, callback):
    loss = cases.SquaredError()
    model = ConvertModelUtils.convert_to_thor_model(Model(network, loss, optimizer), network=network, loss_fn=loss,
                                                    optimizer=optimizer)
    columns = [np.concatenate(column) for column in zip(*cases.arrays(count))]
    dataset = ds.NumpySlicesDataset(tuple(columns), ["x", "y"], shuffle=False).batch(cases.BATCH)
    model.train(1, dataset, callbacks=[callback], dataset_sink_mode=False)


class Follows(ms.train.Callback):
    """Compares the weights after each step."""

    def __init__(self, network, expected):
        self.network, self.expected = network, list(expected)

    def on_train_step_end(self, run_context):
        cases.assert_close(self.network, self.expected.pop(0))


@pytest.mark.slow
def test_a_converted_model_follows_the_equations():
    network, _, optimizer = cases.create(use_nesterov=True)
    follows = Follows(network, cases.trained(STEPS, nesterov=True))
    train_converted(network, optimizer, STEPS, follows)
    assert follows.expected == []


def test_a_loop_of_ones_own_gives_the_same_weights(pynative):
    network, with_loss, optimizer = cases.create()
    gradients = ms.value_and_grad(with_loss, None, optimizer.parameters)
    for x, y in cases.arrays(STEPS):
        optimizer(gradients(Tensor(x), Tensor(y))[1])
    cases.assert_close(network, list(cases.trained(STEPS))[-1])


@pytest.mark.parametrize("build", [thor, lambda net, *rest, **more: kfac(net, *rest, frequency=2, **more),
                                   lambda net, *rest, **more: spngd(net, *rest, **more)], ids=["thor", "kfac", "spngd"])
def test_other_ways_to_make_thor_take_groups(pynative, build):
    network = cases.Network()
    optimizer = build(network, 0.1, 0.2, 0.0, groups=[{"params": network.second.trainable_params(), "lr": 0.0}])
    before = cases.weights_of(network)
    step = make_train_step(nn.WithLossCell(network, cases.SquaredError()), optimizer)
    run(step, cases.arrays(1))
    moved = {name for name, value in cases.weights_of(network).items() if not np.array_equal(value, before[name])}
    assert moved == {"first.weight", "first.bias"}


def rates_of(optimizer):
    return {p.name: float(value.asnumpy()) for p, value in zip(optimizer.parameters, optimizer.get_lr())}


def decays_of(optimizer):
    return {p.name: float(value.asnumpy()) for p, value in zip(optimizer.parameters, optimizer.get_weight_decay())}


def test_rates_and_decays_are_read_in_the_order_of_parameters(pynative):
    _, with_loss, optimizer = cases.create()
    step = make_train_step(with_loss, optimizer)
    for number in range(3):
        assert rates_of(optimizer) == pytest.approx({name: cases.rate(name, number) for name in cases.start()})
        wanted = {name: cases.decay(name, number) for name in cases.start()}
        assert decays_of(optimizer) == pytest.approx({**wanted, "first.bias": wanted["first.weight"]})
        run(step, cases.arrays(1))
    assert optimizer.is_group and optimizer.is_group_lr


def test_without_groups_one_rate_and_one_decay_are_read(pynative):
    optimizer = THOR(cases.Network(), 0.25, 0.1, 0.9, weight_decay=0.5, loss_scale=8.0)
    assert optimizer.get_lr() is optimizer.learning_rate and optimizer.get_lr().shape == ()
    assert float(optimizer.get_weight_decay().asnumpy()) == 0.5
    assert not optimizer.is_group and not optimizer.is_group_lr


def test_constant_rates_can_be_changed_between_steps(pynative):
    network, with_loss, optimizer = cases.create(learning_rate=0.1)
    step = make_train_step(with_loss, optimizer)
    bias = network.second.bias
    assert optimizer.get_lr_parameter(network.second.weight) is optimizer.learning_rate
    assert optimizer.get_lr_parameter([bias])[0].name == "learning_rate_of_group_1"
    changed = {"second.weight": 0.1, "second.bias": cases.BIAS_RATE}
    expected = cases.trained(4, lambda name, step: changed.get(name, cases.held(cases.GROUP_RATES, step)))
    for number, (batch, wanted) in enumerate(zip(cases.arrays(4), expected)):
        run(step, [batch])
        cases.assert_close(network, wanted)
        if number == 1:
            changed.update({"second.weight": 0.03, "second.bias": 0.2})
            ops.assign(optimizer.learning_rate, Tensor(0.03, ms.float32))
            ops.assign(optimizer.get_lr_parameter(bias), Tensor(0.2, ms.float32))


def test_learning_rate_callbacks_change_the_rate_of_parameters_without_one(pynative):
    network, _, optimizer = cases.create(learning_rate=0.1)
    train_converted(network, optimizer, 3, LearningRateScheduler(lambda rate, step: rate / 2))
    own = {"second.weight": 0.1}
    expected = cases.trained(3, lambda name, step: own[name] / 2 ** step if name in own else cases.rate(name, step))
    cases.assert_close(network, list(expected)[-1])
    assert float(optimizer.learning_rate.asnumpy()) == pytest.approx(0.0125)


def state(cell):
    return {p.name: p.asnumpy().copy() for p in cell.get_parameters()}


def test_saved_and_loaded_it_goes_on_bit_for_bit(pynative, tmp_path):
    _, with_loss, optimizer = cases.create()
    step = make_train_step(with_loss, optimizer)
    run(step, cases.arrays(3))
    ms.save_checkpoint(step, str(tmp_path / "3.ckpt"))
    run(step, cases.arrays(STEPS)[3:])
    expected = state(step)
    _, with_loss, optimizer = cases.create()
    other = make_train_step(with_loss, optimizer)
    assert ms.load_param_into_net(other, ms.load_checkpoint(str(tmp_path / "3.ckpt")), True) == ([], [])
    run(other, cases.arrays(STEPS)[3:])
    got = state(other)
    assert set(got) == set(expected)
    assert [name for name in expected if not np.array_equal(got[name], expected[name])] == []


def test_groups_add_only_their_constant_rates_to_the_state(pynative):
    steps = [make_train_step(with_loss, optimizer) for _, with_loss, optimizer in
             (cases.create(groups=None, weight_decay=0.0), cases.create())]
    plain, grouped = (set(state(step)) for step in steps)
    assert grouped - plain == {"learning_rate_of_group_1"} and plain < grouped


def test_frozen_parameters_of_a_cell_are_left_out_and_repetitions_within_a_group_are_one(pynative):
    network = cases.Network()
    network.first.bias.requires_grad = False
    optimizer = THOR(network, 0.1, 0.1, 0.9, groups=[
        {"params": iter([network.first, network.first.weight]), "lr": 0.5, "grad_centralization": False},
        {"order_params": network.trainable_params()}])
    assert rates_of(optimizer) == pytest.approx({"first.weight": 0.5, "second.weight": 0.1, "second.bias": 0.1})


def refused(groups):
    network = cases.Network()
    with pytest.raises(TypeError) as raised:
        THOR(network, 0.1, 0.1, 0.9, groups=groups(network) if callable(groups) else groups)
    assert isinstance(raised.value, ValueError) and "\n" not in str(raised.value)
    assert not hasattr(network, "thor_registration")
    return str(raised.value)


WRITE = 'write [{"params": [net.fc.weight], "lr": 0.01}]'
KEYS = "params, lr, weight_decay, grad_centralization, order_params"


@pytest.mark.parametrize("groups, message", [
    (3, f"groups=3; must be a list of dicts; {WRITE}"),
    ({"params": []}, "groups={'params': []}; must be a list of dicts; " + WRITE),
    ([], f"groups=[]; must have a group with params; {WRITE}"),
    ([3], f"groups[0]=3; must be a dict, as all others; {WRITE}"),
    ([{"lr": 0.1}], f"groups[0] has no params; must name its parameters; {WRITE}"),
    ([{"params": ["first.bias"], "learning_rate": 0.1}],
     f"groups[0] has the key 'learning_rate'; must be one of {KEYS}; rename or remove it"),
    ([{"params": ["first.bias"], "grad_centralization": True}], "groups[0].grad_centralization=True; must be False, "
     "gradients are not centralised; leave it out"),
    ([{"params": []}], "groups[0].params=[]; must have a trainable parameter; remove the group or fill it"),
    ([{"params": 0.1}], f"groups[0].params=0.1; must be a list of parameters; {WRITE}"),
    ([{"params": [0.1]}], f"groups[0].params has 0.1; must be parameters, their names or cells; {WRITE}"),
    ([{"params": ["third.bias"]}], "groups[0].params='third.bias'; must be the name of a trainable parameter of net; "
     "see net.trainable_params() for them"),
    ([{"params": [Parameter(Tensor([1.0]), name="first.bias")]}], "groups[0].params has first.bias; must be trainable "
     "parameters of net; set requires_grad where it should learn, or remove it"),
    (lambda net: [{"params": [net.first]}, {"params": ["first.bias"]}], "groups has first.bias in two groups, 0 and 1; "
     "must be in one; remove it from the other"),
    ([{"params": ["first.bias"], "lr": -0.5}], "groups[0].lr=-0.5; must be a finite non-negative float or a 1-D array "
     "of them, one a step; check the schedule it comes from"),
    ([{"params": ["first.bias"], "lr": None}], "groups[0].lr=None; must be a finite non-negative float or a 1-D array "
     "of them, one a step; give a number, list, array or Tensor"),
    ([{"params": ["first.bias"], "weight_decay": [0.1, -1]}], "groups[0].weight_decay=-1.0; must be a finite "
     "non-negative float or a 1-D array of them, one a step; check the schedule it comes from"),
    (lambda net: [{"params": [net.first]}, {"order_params": net.trainable_params()[::-1]}],
     "order_params in groups is another order than the network's; must be net.trainable_params(), whose order is "
     "kept; leave order_params out"),
    (lambda net: [{"params": [net.first], "order_params": net.trainable_params()}], "groups[0] has order_params beside "
     "other keys; must be alone; give it a dict of its own"),
], ids=lambda value: value if isinstance(value, str) else "")
def test_what_cannot_be_meant_is_refused(groups, message):
    assert refused(groups) == message


def test_a_frozen_parameter_is_refused():
    def groups(net):
        net.first.bias.requires_grad = False
        return [{"params": [net.first.bias]}]

    assert refused(groups) == ("groups[0].params has first.bias; must be trainable parameters of net; set "
                               "requires_grad where it should learn, or remove it")


def test_get_lr_parameter_refuses_others():
    _, _, optimizer = cases.create()
    with pytest.raises(ValueError, match="^param=Parameter x; must be a parameter of the optimizer; see its param"):
        optimizer.get_lr_parameter(Parameter(Tensor([1.0]), name="x"))


class Documented(nn.Cell):
    """A network with what the example in the documents names."""

    def __init__(self):
        super().__init__()
        self.norm, self.fc = nn.LayerNorm((4,)), nn.Dense(4, 2)


def test_the_example_of_the_documents_does_what_it_says(pynative):
    import thor as package

    text = (Path(__file__).parents[2] / "docs" / "optimizer.md").read_text(encoding="utf-8")
    example = re.search(r"^## Groups of parameters$.*?^```python$(.*?)^```$", text, re.MULTILINE | re.DOTALL)[1]
    names = {"net": Documented(), "THOR": THOR, "thor": package}
    exec(example, names)
    assert rates_of(names["opt"]) == pytest.approx({"norm.gamma": 0.05, "norm.beta": 0.05, "fc.weight": 0.01,
                                                    "fc.bias": 0.05})
    assert decays_of(names["opt"]) == pytest.approx({"norm.gamma": 0.0, "norm.beta": 0.0, "fc.weight": 1e-3,
                                                     "fc.bias": 0.0})
