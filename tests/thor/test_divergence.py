"""One warning for a run that diverges, none for one that does not."""
from __future__ import annotations

import math

import mindspore as ms
import pytest
from mindspore import DynamicLossScaleManager, nn

from tests.helpers.training_cases import batches, create, dataset
from thor.divergence import DivergenceWatch
from thor.model import StepModel
from thor.train import make_train_step


def warnings_of(caplog):
    return [record.getMessage() for record in caplog.records if "diverges" in record.getMessage()]


def trained(count, manager=None, **options):
    _, with_loss, optimizer = create(frequency=4, **options)
    step, data = make_train_step(with_loss, optimizer, manager), batches(4)
    return [float(step(*data[index % 4]).asnumpy()) for index in range(count)]


def test_a_run_that_diverges_warns_once(pynative, caplog):
    losses = trained(12, learning_rate=0.3, damping=1e-3)
    risen = next(index for index, loss in enumerate(losses) if loss > 3 * losses[0])
    assert 0 < risen < 4, "it rises within the first refresh interval"
    assert warnings_of(caplog) == [
        f"the loss is {losses[risen]:.4g} at step {risen}, {losses[0]:.4g} at the start: training diverges with "
        "frequency=4, damping=0.001 and learning_rate=0.3; refresh more often (a lower frequency), raise the damping, "
        "or lower or warm up the learning rate"]


def test_a_run_that_does_not_diverge_does_not_warn(pynative, caplog):
    losses = trained(16)
    assert max(losses) > losses[0], "a loss above the first is none too many"
    assert warnings_of(caplog) == []


@pytest.mark.slow
def test_a_run_in_sinks_warns_at_the_end_of_one(caplog):
    class Sinks(nn.Cell):
        """Two steps in one graph, of which Python sees the end."""

        def __init__(self, step):
            super().__init__(auto_prefix=False)
            self.step, self.optimizer = step, step.optimizer
            self.watch = step.watch

        def construct(self, x, y):
            self.step(x, y)
            return self.step(x, y)

    _, with_loss, optimizer = create(frequency=4, learning_rate=0.3, damping=1e-3)
    losses = []

    class Losses(ms.train.Callback):
        def on_train_step_end(self, run_context):
            losses.append(float(run_context.original_args().net_outputs.asnumpy()))

    StepModel(Sinks(make_train_step(with_loss, optimizer))).train(1, dataset(4), Losses(), dataset_sink_mode=False)
    assert int(optimizer.global_step.asnumpy()[0]) == 8
    risen = next(index for index, loss in enumerate(losses) if loss > 3 * losses[0] or not math.isfinite(loss))
    [message] = warnings_of(caplog)
    assert message.startswith(f"the loss is {losses[risen]:.4g} at step {2 * risen + 1}, {losses[0]:.4g} at the start")


EARLY = [7.0, 6.6, 7.6, 30.5]
NOISY = [0.01, 0.004, 0.02, 0.05, 0.002, 0.01, 0.04, 0.03, 0.001, 0.02]


@pytest.mark.parametrize("first_step, stride, losses, warned_at", [
    (0, 1, EARLY, 3),  # as ResNet-18 with published constants on small images
    (0, 1, [7.0, 6.6, 15.0, 14.0, 9.0, 20.9], None),  # what recovers by itself
    (0, 1, [7.0, 3.0, 2.0, 1.5, 0.5, 0.4, 0.3, 0.4, 6.9, 7.1], 9),  # from 0.5, the largest of an interval, above 7
    (0, 1, [7.0, *NOISY, *NOISY], None),  # batches differ
    (0, 1, [-1.0, 2.0, 50.0], None),  # nothing to be a multiple of
    (0, 1, [7.0, math.nan], 1),
    (0, 10, [7.0, 5.0, 21.5], 2),  # sinks of ten steps
    (50, 1, [*NOISY, 0.06, 0.05, 0.2], 12),  # resumed: 0.05, the largest of ten, stands for the beginning
    (50, 1, [0.001, 0.04], None),
])
def test_when_a_loss_has_risen_manifold(pynative, caplog, first_step, stride, losses, warned_at):
    watch = DivergenceWatch(create(frequency=4)[2])
    watch.start(first_step)
    warned = []
    for index, loss in enumerate(losses):
        watch.note(first_step + (index + 1) * stride - 1, loss)
        if watch.warned and not warned:
            warned.append(index)
    assert warned == ([] if warned_at is None else [warned_at])
    assert len(warnings_of(caplog)) == len(warned)


def test_overflow_that_is_skipped_is_no_divergence(pynative, caplog):
    watch = DivergenceWatch(create(frequency=4)[2], tolerates=True)
    for step, loss in enumerate([7.0, math.inf, math.nan, 7.0]):
        watch.note(step, loss)
    assert warnings_of(caplog) == []
    _, with_loss, optimizer = create()
    assert make_train_step(with_loss, optimizer, DynamicLossScaleManager()).watch.tolerates
    assert not make_train_step(with_loss, optimizer).watch.tolerates
