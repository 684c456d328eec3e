"""Momentum before the preconditioner, updates of a size or orthogonal: the equations in float64, THOR's directions."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, ParameterTuple, Tensor, nn

from tests.helpers.modes import BOTH_MODES
from tests.helpers.training_cases import BATCH, Classifier, batches, loss_fn
from thor import THOR
from thor.checks import ArgumentError
from thor.normalized import NormalizedUpdate
from thor.train import make_train_step

RATE, DECAY, MOMENTUM, BETA2 = 0.05, 0.1, 0.8, 0.95


def float32(value):
    return Tensor(value, ms.float32)


@BOTH_MODES
@pytest.mark.parametrize("own", [False, True], ids=["one rate", "a rate each"])
def test_four_steps_follow_the_equations(mode, own):
    """Two layers, one with a folded bias, and a weight of none; the preconditioner multiplies with constants."""
    ms.set_context(mode=mode)
    random = np.random.default_rng(0)
    start = [random.normal(size=(3, 4)), random.normal(size=3), random.normal(size=(2, 5)), random.normal(size=6)]
    factors = [random.normal(size=value.shape) for value in start[:3]]
    weights = [Parameter(float32(value), name=f"w{i}") for i, value in enumerate(start)]
    update = NormalizedUpdate(ParameterTuple(weights), (2, 1), MOMENTUM, BETA2, (True, False, True, True), ((), ()))
    rates, decays = ((RATE, 2 * RATE, 3 * RATE, 4 * RATE), (0.1, 0.2, 0.3, 0.4)) if own else ((RATE,) * 4, (DECAY,) * 4)
    moments, first, second = [np.zeros_like(value) for value in start[:3]], 0.0, 0.0
    for t in range(1, 5):
        gradients = [random.normal(size=value.shape) for value in start]
        ahead = update.ahead(tuple(map(float32, gradients[:3])))
        scaled = update.sized(tuple(float32(factor) * step for factor, step in zip(factors, ahead)))
        update(tuple(map(float32, gradients)), (*scaled, float32(gradients[3])),
               tuple(map(float32, rates)) if own else float32(RATE),
               tuple(map(float32, decays)) if own else float32(DECAY))
        moments = [MOMENTUM * v + g for v, g in zip(moments, gradients)]
        p = [f * (g + MOMENTUM * v) for f, g, v in zip(factors, gradients, moments)]
        size = [np.sqrt((np.sum(p[0] ** 2) + np.sum(p[1] ** 2)) / 15)] * 2 + [np.sqrt(np.mean(p[2] ** 2))]
        for i in range(3):
            decay = 0.0 if i == 1 else decays[i]
            start[i] = start[i] - rates[i] * (0.2 * p[i] / size[i] + decay * start[i])
        first, second = (beta * old + (1 - beta) * gradients[3] ** power
                         for beta, old, power in ((MOMENTUM, first, 1), (BETA2, second, 2)))
        step = first / (1 - MOMENTUM ** t) / (np.sqrt(second / (1 - BETA2 ** t)) + 1e-8)
        start[3] = start[3] - rates[3] * (step + decays[3] * start[3])
    for weight, expected in zip(weights, start):
        np.testing.assert_allclose(weight.asnumpy(), expected, rtol=2e-5, atol=1e-6)
    assert [p.name for p in update.moments] == [f"moments.w{i}" for i in range(4)]


def polynomial_of_singular_values(matrix):
    """What the quintic iteration makes of ``U S V'``: U p(S) V', by the decomposition itself."""
    u, s, v = np.linalg.svd(matrix, full_matrices=False)
    s = s / np.sqrt(np.sum(s ** 2))
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s ** 3 + 2.0315 * s ** 5
    return u * s @ v


@BOTH_MODES
def test_orthogonal_updates(mode):
    """Of a matrix with a folded bias, a kernel taller than wide, and a layer that is no one matrix."""
    ms.set_context(mode=mode)
    random = np.random.default_rng(1)
    updates = [random.normal(size=shape) for shape in ((3, 4), (3,), (7, 2, 1), (2, 3))]
    weights = [Parameter(float32(np.zeros_like(value)), name=f"w{i}") for i, value in enumerate(updates)]
    update = NormalizedUpdate(ParameterTuple(weights), (2, 1, 1), MOMENTUM, BETA2, (True,) * 4, ((3, 5), (7, 2), ()))
    got = [value.asnumpy() for value in update.sized(tuple(map(float32, updates)))]
    joint = 0.2 * np.sqrt(5) * polynomial_of_singular_values(np.concatenate((updates[0], updates[1][:, None]), 1))
    kernel = 0.2 * np.sqrt(7) * polynomial_of_singular_values(updates[2].reshape(7, 2))
    wanted = [joint[:, :4], joint[:, 4], kernel.reshape(7, 2, 1),
              0.2 * updates[3] / np.sqrt(np.mean(updates[3] ** 2))]
    for value, expected in zip(got, wanted):
        np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-5)


def test_only_what_multiplies_is_preconditioned(pynative):
    network = nn.SequentialCell(nn.Embedding(5, 4), nn.Dense(4, 3), nn.LayerNorm((3,)))
    lines = THOR(network, 0.1, 0.3, 0.9, rule="orthogonal").registration_table().splitlines()[1:]
    by_rule = [line.split()[0] for line in lines if line.endswith("first order: by AdamW with rule=orthogonal")]
    assert by_rule == ["0.embedding_table", "2.gamma", "2.beta"]
    assert [line.split()[0] for line in lines if "second order" in line] == ["1.weight"]


@BOTH_MODES
def test_a_network_without_layers_to_precondition_is_adamws(mode):
    """The first step of AdamW is the gradient's sign."""
    ms.set_context(mode=mode)
    network = nn.LayerNorm((3,))
    step = make_train_step(nn.WithLossCell(network, nn.MSELoss()), THOR.robust(network, 0.5))
    step(float32([[1.0, 2.0, 4.0]]), float32([[9.0, -9.0, 9.0]]))
    np.testing.assert_allclose(network.beta.asnumpy(), [0.5, -0.5, 0.5], rtol=1e-5)


def test_robust_sets_what_it_says_and_gives_way(pynative):
    network = Classifier()
    optimizer = THOR.robust(network)
    options = optimizer.registration.context.options
    assert (options.rule, options.relative_damping, optimizer.policy.segments) == ("normalized", True, ((0, 10),))
    assert [float(value.asnumpy()) for value in (optimizer.get_lr(), optimizer.get_weight_decay())] == \
        pytest.approx([0.01, 0.02])
    assert optimizer.damping(optimizer.global_step).asnumpy() == pytest.approx(0.3)
    decays = {p.name: float(flag.asnumpy()) for p, flag in zip(optimizer.weights, (
        *optimizer.momentum_update.decays, *optimizer.momentum_update.adam.decays))}
    assert decays == {p.name: float(p.ndim > 1) for p in network.trainable_params()}
    other = THOR.robust(Classifier(), [0.1, 0.0], rule="orthogonal", frequency=5, damping=0.1)
    assert (other.registration.context.options.rule, other.policy.segments) == ("orthogonal", ((0, 5),))


def created(**options):
    network = Classifier()
    optimizer = THOR(network, RATE, 0.3, MOMENTUM, DECAY, batch_size=BATCH, split_dim=4, **options)
    return network, optimizer, make_train_step(nn.WithLossCell(network, loss_fn()), optimizer)


@BOTH_MODES
def test_the_first_step_has_thors_direction_and_the_size(mode):
    ms.set_context(mode=mode)
    plain, _, step = created(decay_filter=lambda parameter: False)
    start = {p.name: p.asnumpy().astype(np.float64) for p in plain.trainable_params()}
    step(*batches(1)[0])
    u = {name: (start[name] - p.asnumpy()) / RATE for name, p in plain.parameters_dict().items() if name in start}
    network, optimizer, step = created(rule="normalized", beta2=BETA2)
    step(*batches(1)[0])
    layered = [layer.weight.name for layer in optimizer.registration.layers]
    assert layered == ["first.weight", "second.weight"]
    for name, value in start.items():
        got = (value - network.parameters_dict()[name].asnumpy()) / RATE - DECAY * value
        if name in layered:
            np.testing.assert_allclose(got, 0.2 * u[name] / np.sqrt(np.mean(u[name] ** 2)), atol=2e-4)
        else:
            np.testing.assert_allclose(np.abs(got[np.abs(u[name]) > 1e-4]), 1.0, atol=1e-3)


@pytest.mark.usefixtures("pynative")
def test_a_step_that_is_not_finite_leaves_the_moments():
    _, optimizer, step = created(rule="normalized")
    first, second = batches(2)
    step(*first)
    before = [p.asnumpy().copy() for p in optimizer.moments]
    step(Tensor(np.full(second[0].shape, np.nan), ms.float32), second[1])
    assert optimizer.skipped_updates == 1 and len(before) == len(optimizer.weights)
    for p, value in zip(optimizer.moments, before):
        np.testing.assert_array_equal(p.asnumpy(), value)


@pytest.mark.parametrize("arguments, message", [
    ({"momentum": 1.0}, "momentum=1.0; must be a number >= 0 and < 1; it is AdamW's beta1"),
    ({"use_nesterov": True}, "use_nesterov=True; must be False with rule='normalized'; only rule='momentum' reads it"),
    ({"graft": "sgd"}, "graft='sgd'; must be None with rule='normalized'; its updates have their size"),
    ({"kl_clip": 0.1}, "kl_clip=0.1; must be None with rule='normalized'; its updates have their size"),
    ({"clip_norm": 1.0}, "clip_norm=1.0; must be None with rule='normalized'; its updates have their size"),
])
def test_wrong_arguments_are_one_line(arguments, message):
    arguments = {"momentum": 0.9, **arguments}
    with pytest.raises(ArgumentError) as raised:
        THOR(Classifier(), RATE, 0.3, rule="normalized", **arguments)
    assert str(raised.value) == message
