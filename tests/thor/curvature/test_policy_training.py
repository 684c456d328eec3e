"""Policies in training: what is skipped is counted, both modes agree to the bit, a resumed run goes on alike."""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor, nn

from tests.helpers import emulated
from thor import THOR, CurvatureOptions, registration
from thor.backends import Backend, blas, host
from thor.backends.cpu import CpuBackend
from thor.backends.gpu import GpuBackend
from thor.curvature import FrobeniusPolicy, TracePolicy, UpdatePolicy
from thor.registration import tap_network
from thor.train import make_train_step

BATCH = 8


class Network(nn.Cell):
    """A grouped convolution, BatchNorm, an embedding and a Dense layer in three blocks: every kind of factor."""

    def __init__(self):
        super().__init__()
        ms.set_seed(1)  # of the biases
        rng = np.random.default_rng(0)

        def weight(*shape):
            return Tensor(0.3 * rng.standard_normal(shape).astype(np.float32))

        self.first = nn.Conv2d(2, 6, 3, stride=2, pad_mode="same", group=2, has_bias=True,
                               weight_init=weight(6, 1, 3, 3))
        self.norm = nn.BatchNorm2d(6)
        self.table = nn.Embedding(7, 5, embedding_table=weight(7, 5))
        self.last = nn.Dense(155, 4, weight_init=weight(4, 155))

    def construct(self, images, ids, targets):
        maps = self.norm(self.first(images))
        rows = ms.ops.concat((maps.reshape(maps.shape[0], -1), self.table(ids)), 1)
        difference = self.last(rows) - targets
        return (difference * difference).mean()


def batches(count):
    rng = np.random.default_rng(1)
    return [(Tensor(rng.standard_normal((BATCH, 2, 10, 10)), ms.float32), Tensor(rng.integers(0, 7, BATCH), ms.int32),
             Tensor(rng.standard_normal((BATCH, 4)), ms.float32)) for _ in range(count)]


def create(policy, backend=None, **options):
    network = Network()
    options = {"fold_bias": True, "batchnorm_blocks": True, "split_dim": 64, **options}
    if backend is not None:
        tap_network(network, CurvatureOptions(**options), backend, policy)
    optimizer = THOR(network, 0.02, 0.1, 0.9, batch_size=BATCH, update=policy, **options)
    return optimizer, make_train_step(network, optimizer)


def train(policy, steps=6, **options):
    """The optimizer after ``steps`` steps and the status of its layers after each."""
    optimizer, step = create(policy, **options)
    history = []
    for batch in batches(steps):
        step(*batch)
        history.append([row.status for row in optimizer.curvature_report()])
    return optimizer, history


def state_of(optimizer):
    return {p.name: p.asnumpy().copy() for p in optimizer.get_parameters()}


def inverses_of(optimizer):
    """By layer and role; ``("table", "diagonal")`` is the A of the embedding."""
    found = {(layer, role): blocks for layer, roles in optimizer.inverses().items() for role, blocks in roles.items()}
    return {**found, ("table", "diagonal"): state_of(optimizer)["inverse_a.table"]}


def assert_same_state(first, second, leave_out=()):
    one, two = state_of(first), state_of(second)
    shared = [name for name in one if name in two and not name.startswith(tuple(leave_out))]
    assert len(shared) > 20
    for name in shared:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


POLICIES = {"trace": lambda: TracePolicy(2, 0.1, 0.05), "frobenius": lambda: FrobeniusPolicy(1, 0.3),
            "growing": lambda: UpdatePolicy(((0, 1), (1, 2)))}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["trace", "frobenius"])  # the other one's graph is that of fixed intervals
def test_graph_and_pynative_agree_to_the_bit(name):
    ms.set_context(mode=ms.PYNATIVE_MODE)
    expected, statuses = train(POLICIES[name](), steps=5)
    ms.set_context(mode=ms.GRAPH_MODE)
    optimizer, history = train(POLICIES[name](), steps=5)
    assert history == statuses
    weights = [p.asnumpy() for p in optimizer.weights]
    for got, reference in zip(weights, expected.weights, strict=True):
        np.testing.assert_allclose(got, reference.asnumpy(), rtol=1e-5, atol=1e-7)
    seen = {status for row in history for status in row}
    assert seen == ({"refreshed", "kept", "stopped"} if name == "trace" else {"refreshed"})


def counting(monkeypatch, name, module=blas, calls=None):
    calls = [] if calls is None else calls
    original = getattr(module, name)

    def counted(*arguments, **keywords):
        calls.append(1)
        return original(*arguments, **keywords)

    monkeypatch.setattr(module, name, counted)
    return calls


@pytest.fixture
def counted(monkeypatch):
    """The backend whose arithmetic is Python's, where it can be counted; kernels skip alike, see test_kernels."""
    monkeypatch.setattr(registration, "create_backend", CpuBackend)
    ms.set_context(mode=ms.PYNATIVE_MODE)


def counting_moments(monkeypatch):
    """Second moments of convolutions on the host, of Dense layers by MindSpore's own product."""
    return counting(monkeypatch, "covariance", Backend, counting(monkeypatch, "add_second_moment"))


class OnlyLast(UpdatePolicy):
    """After the first refresh, the last two factors alone."""

    gated = True

    def select(self, opened, change, distance, earlier_distance):
        return opened, Tensor([False] * 4 + [True] * 2)


@pytest.mark.usefixtures("counted")
def test_what_is_not_refreshed_is_neither_measured_nor_inverted(monkeypatch):
    optimizer, step = create(OnlyLast(1))
    inverses, moments = counting(monkeypatch, "invert"), counting_moments(monkeypatch)
    first, second = batches(2)
    step(*first)
    assert len(inverses) == sum(len(blocks) for roles in optimizer.inverses().values() for blocks in roles.values())
    measured = len(moments)
    before = inverses_of(optimizer)
    inverses.clear(), moments.clear()
    step(*second)
    assert len(inverses) == 4  # of the last layer, three blocks of A and one of G
    assert len(moments) == 2 < measured
    after = inverses_of(optimizer)
    changed = {place for place in after if not np.array_equal(after[place], before[place])}
    assert changed == {("last", "a"), ("last", "g")}
    assert [row.refreshes for row in optimizer.curvature_report()] == [1, 1, 1, 2]


@pytest.mark.usefixtures("counted")
def test_a_kept_layer_is_not_even_measured_but_one_that_must_be_averaged_first_is(monkeypatch):
    def moments_of_second_refresh(averaged_first):
        optimizer, step = create(TracePolicy(1, 1e6))
        if averaged_first:
            optimizer.measure_always()
        first, second = batches(2)
        step(*first)
        inverses, moments = counting(monkeypatch, "invert"), counting_moments(monkeypatch)
        step(*second)
        assert len(inverses) == 0 and {row.status for row in optimizer.curvature_report()} == {"kept"}
        return len(moments)

    assert moments_of_second_refresh(averaged_first=False) == 0
    assert moments_of_second_refresh(averaged_first=True) > 6


@pytest.mark.slow
@pytest.mark.usefixtures("pynative")
def test_early_and_late_choice_agree():
    """Whether the trace is looked at before or after measuring makes no difference to training."""
    early, _ = train(TracePolicy(1, 0.05), steps=4)
    optimizer, step = create(TracePolicy(1, 0.05))
    optimizer.measure_always()
    for batch in batches(4):
        step(*batch)
    counts = [row.refreshes for row in early.curvature_report()]
    assert counts == [row.refreshes for row in optimizer.curvature_report()] and 4 > min(counts) > 1
    assert_same_state(early, optimizer, leave_out=("curvature_gates",))


@pytest.mark.slow
@pytest.mark.usefixtures("pynative")
def test_stopped_means_stopped():
    optimizer, history = train(TracePolicy(1, 1e6, 1e6), steps=3)
    assert history == [["refreshed"] * 4] + [["stopped"] * 4] * 2
    inverses = inverses_of(optimizer)
    make_train_step(optimizer.registration.network, optimizer)(*batches(1)[0])
    for place, blocks in inverses_of(optimizer).items():
        np.testing.assert_array_equal(blocks, inverses[place])


@pytest.mark.slow
@pytest.mark.usefixtures("counted")
def test_traces_are_measured_only_for_a_policy_that_reads_them_and_of_layers_it_looks_at(monkeypatch):
    squares = counting(monkeypatch, "squares", host)
    train(OnlyLast(1), steps=2)
    assert not squares
    optimizer, step = create(TracePolicy(1, 1e6, 1e6))
    first, second = batches(2)
    step(*first)
    assert squares
    squares.clear()
    step(*second)  # which stops all layers
    assert squares
    squares.clear()
    step(*first)
    assert not squares
    assert {row.status for row in optimizer.curvature_report()} == {"stopped"}


@pytest.mark.slow
@pytest.mark.usefixtures("pynative")
def test_thresholds_of_zero_train_as_fixed():
    fixed, _ = train(UpdatePolicy(2), steps=4)
    rule, history = train(TracePolicy(2, 0.0, 0.0), steps=4)
    assert history == [["refreshed"] * 4] * 4
    assert_same_state(fixed, rule, leave_out=("curvature_gates", "change_of", "trace_of"))


@pytest.mark.slow
@pytest.mark.usefixtures("pynative")
@pytest.mark.parametrize("name", POLICIES)
def test_a_run_goes_on_from_its_state_to_the_bit(name):
    whole, _ = train(POLICIES[name](), steps=4)
    half, step = create(POLICIES[name]())
    data = batches(4)
    for batch in data[:2]:
        step(*batch)
    resumed, step_on = create(POLICIES[name]())
    saved = {p.name: ms.Parameter(Tensor(p.asnumpy().copy()), name=p.name) for p in step.get_parameters()}
    not_loaded, unexpected = ms.load_param_into_net(step_on, saved, strict_load=True)
    assert not not_loaded and not unexpected
    for batch in data[2:]:
        step_on(*batch)
    assert_same_state(whole, resumed)


@pytest.mark.slow
@pytest.mark.usefixtures("pynative")
@pytest.mark.parametrize("name, steps", [("trace", 5), ("frobenius", 3)])
def test_a_device_that_inverts_whole_batches_agrees_with_the_cpu(name, steps):
    cpu, expected = train(POLICIES[name](), steps=steps)
    device, history = train(POLICIES[name](), steps=steps, backend=GpuBackend(emulated.gpu()))
    assert history == expected
    for got, reference in zip(device.weights, cpu.weights, strict=True):
        np.testing.assert_allclose(got.asnumpy(), reference.asnumpy(), rtol=1e-3, atol=2e-5)


@pytest.mark.usefixtures("pynative")
def test_traces_are_those_of_the_factors():
    """tr(HW A x G) of every layer, against its own factors."""
    optimizer, step = create(UpdatePolicy(1), record_curvature=True, running_average=0.5, split_dim=None)
    step(*batches(1)[0])
    report = {row.name: row for row in optimizer.curvature_report()}
    layers = {layer.name: layer for layer in optimizer.registration.layers}
    positions = {"first": 25.0}
    for name, layer in layers.items():
        traces = [value.sum() if value.ndim == 1 else np.trace(value, axis1=1, axis2=2).sum()
                  for value in (layer.factor_parameters[role].asnumpy().astype(np.float64)
                                for role in ("a", "g", "unit") if role in layer.factor_parameters)]
        expected = np.prod(traces) * positions.get(name, 1.0)
        assert report[name].trace == pytest.approx(expected, rel=1e-5), name
        assert report[name].change is None and report[name].condition >= 1.0
