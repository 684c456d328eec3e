"""On CPU, where MindSpore has no data sink, sink arguments train the same steps on the same batches."""
from __future__ import annotations

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
import pytest

from tests.helpers.training_cases import Refreshes, assert_same_weights, batches, create, dataset, loss_fn, weights_of
from thor.model import StepModel
from thor.sink import sink_epochs
from thor.train import make_train_step

pytestmark = pytest.mark.usefixtures("pynative")

DATASET = 5


@pytest.fixture(scope="module")
def cycled():
    """Weights after each number of batches of the dataset, over and over."""
    ms.set_context(mode=ms.PYNATIVE_MODE)
    network, with_loss, optimizer = create()
    step, weights = make_train_step(with_loss, optimizer), [weights_of(network)]
    for index in range(14):
        step(*batches(DATASET)[index % DATASET])
        weights.append(weights_of(network))
    return weights


class Epochs(ms.train.Callback):
    """Steps at the end of each epoch."""

    def __init__(self):
        self.ends = []

    def on_train_epoch_end(self, run_context):
        arguments = run_context.original_args()
        self.ends.append((arguments.cur_epoch_num, arguments.cur_step_num))


@pytest.mark.parametrize("sink, sink_size, per_epoch", [
    (True, 4, 4), (True, 7, 7), (True, -1, DATASET), (False, -1, DATASET),
], ids=["shorter", "longer", "whole", "no sink"])
def test_steps_batches_and_refreshes(cycled, sink, sink_size, per_epoch):
    epochs = 2
    network, with_loss, optimizer = create()
    model = StepModel(make_train_step(with_loss, optimizer))
    record, ends = Refreshes(optimizer), Epochs()
    model.train(epochs, dataset(DATASET), callbacks=[record, ends], dataset_sink_mode=sink,
                sink_size=sink_size)
    assert record.steps == list(range(0, epochs * per_epoch, 3))
    assert ends.ends == [(epoch, epoch * per_epoch) for epoch in (1, 2)]
    np.testing.assert_array_equal(optimizer.global_step.asnumpy(), [epochs * per_epoch])
    assert_same_weights(network, cycled[epochs * per_epoch], rtol=0, atol=0)


def test_a_second_training_goes_on_with_the_schedule_of_refreshes():
    _, with_loss, optimizer = create()
    model, record = StepModel(make_train_step(with_loss, optimizer)), Refreshes(optimizer)
    for sink_size in (2, 5):
        model.train(1, dataset(DATASET), callbacks=record, dataset_sink_mode=True, sink_size=sink_size)
    assert record.steps == [0, 3, 6]


def test_fit_honours_the_sink_size():
    network, with_loss, optimizer = create()
    model = StepModel(make_train_step(with_loss, optimizer), metrics={"acc"}, eval_indexes=[0, 1, 2],
                      eval_network=ms.nn.WithEvalCell(network, loss_fn()))
    record = Refreshes(optimizer)
    model.fit(2, dataset(DATASET), dataset(2), callbacks=record, dataset_sink_mode=True, sink_size=4,
              valid_dataset_sink_mode=False)
    assert record.count == 8 and record.steps == [0, 3, 6]


def test_epochs_continue_each_other_and_reshuffle():
    source = ds.NumpySlicesDataset({"data": np.arange(6)}, shuffle=True).batch(1)
    epochs = sink_epochs(source, 4)
    assert epochs.get_dataset_size() == 4 and epochs.get_col_names() == ["data"]
    iterator = epochs.create_tuple_iterator(num_epochs=3, output_numpy=True)
    seen = [int(row[0][0]) for _ in range(3) for row in iterator]
    assert len(seen) == 12
    assert sorted(seen[:6]) == list(range(6)) and sorted(seen[6:]) == list(range(6))


def test_batches_stay_as_they_are():
    source = dataset(2)
    expected = [*source.create_tuple_iterator(num_epochs=1, output_numpy=True)]
    got = [*sink_epochs(source, 3).create_tuple_iterator(num_epochs=1, output_numpy=True)]
    for batch, reference in zip(got, [*expected, expected[0]], strict=True):
        for array, wanted in zip(batch, reference, strict=True):
            assert array.dtype == wanted.dtype
            np.testing.assert_array_equal(array, wanted)
