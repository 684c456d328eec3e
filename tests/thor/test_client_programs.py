"""What programs written for MindSpore's THOR pass and read."""
from __future__ import annotations

import numpy as np
import pytest
from mindspore import Model, nn
from mindspore.train import train_thor as mindspores_own

from tests.helpers.training_cases import batches, create, dataset, weights_of
from thor import THOR, ConvertModelUtils
from thor.train import make_train_step


def test_a_train_cell_in_place_of_the_model(pynative):
    network, with_loss, optimizer = create()
    cell = nn.TrainOneStepCell(with_loss, optimizer)
    model = ConvertModelUtils.convert_to_thor_model(cell, network=cell)
    model.train(1, dataset(3), dataset_sink_mode=False)
    assert optimizer.last_refresh >= 0 and int(optimizer.global_step.asnumpy()[0]) == 3


def test_mindspores_own_optimizer_is_refused(pynative):
    theirs = type("ThorGpu", (nn.Momentum,), {"__module__": "mindspore.nn.optim.thor"})
    network, _, _ = create()
    optimizer = theirs(network.trainable_params(), 0.1, 0.9)
    with pytest.raises(TypeError, match="^optimizer=ThorGpu of MindSpore; must be thor.THOR; import thor or THOR from"):
        ConvertModelUtils.convert_to_thor_model(Model(network), network=network, optimizer=optimizer)


def test_what_programs_read_of_mindspores_thor(pynative):
    network, _, optimizer = create()
    model = ConvertModelUtils.convert_to_thor_model(Model(network), network=network, loss_fn=nn.MSELoss(),
                                                    optimizer=optimizer)
    assert model._frequency == optimizer.get_frequency() == optimizer.frequency
    assert {p.name for p in optimizer.params} == {p.name for p in network.trainable_params()}
    assert [m.name for m in optimizer.moments] == [f"moments.{p.name}" for p in optimizer.params]
    assert float(optimizer.momentum.asnumpy()) == pytest.approx(0.9) and optimizer.use_nesterov is False


class Bucketed(nn.Cell):
    """A train cell for each length of sequence, as MindSpore's BERT has for its buckets."""

    def __init__(self, *train_cells):
        super().__init__(auto_prefix=False)
        self.train_cells = nn.CellList(list(train_cells), auto_prefix=False)

    def construct(self, x, labels):
        return self.train_cells[0](x, labels) if x.shape[0] > 1 else self.train_cells[1](x, labels)


def trained_by_hand(count):
    network, with_loss, optimizer = create()
    step = make_train_step(with_loss, optimizer)
    for batch in batches(count):
        step(*batch)
    return weights_of(network)


def test_a_cell_around_ready_train_cells_updates_once_a_batch(pynative):
    network, with_loss, optimizer = create()
    cell = Bucketed(*(nn.TrainOneStepCell(with_loss, optimizer) for _ in range(2)))
    model = ConvertModelUtils.convert_to_thor_model(Model(cell), network=cell)
    model.train(1, dataset(3), dataset_sink_mode=False)
    assert int(optimizer.global_step.asnumpy()[0]) == 3
    for name, expected in trained_by_hand(3).items():
        np.testing.assert_array_equal(weights_of(network)[name], expected, err_msg=name)


def test_a_train_cell_is_no_loss_network(pynative):
    _, with_loss, optimizer = create()
    cell = Bucketed(nn.TrainOneStepCell(with_loss, optimizer))
    with pytest.raises(ValueError, match="^network=Bucketed holds a train step, TrainOneStepCell, which updates by itse"
                                         "lf; must only compute a loss; pass the loss network, or the train step to Con"
                                         "vertModelUtils$"):
        make_train_step(cell, optimizer)
    _, _, other = create()
    with pytest.raises(ValueError, match="^network=Bucketed holds a TrainOneStepCell with another optimizer; must"):
        ConvertModelUtils.convert_to_thor_model(Model(cell), network=cell, optimizer=other)


def test_mindspores_converter_leaves_a_model_that_trains_as_it_should(pynative):
    """It returns the model unchanged: factors are measured in every step, and refresh when they are due."""
    network, with_loss, optimizer = create()
    model = Model(with_loss, optimizer=optimizer)
    convert = mindspores_own.ConvertModelUtils.convert_to_thor_model
    assert convert(model, network=with_loss, optimizer=optimizer) is model
    model.train(1, dataset(3), dataset_sink_mode=False)
    for name, expected in trained_by_hand(3).items():
        np.testing.assert_array_equal(weights_of(network)[name], expected, err_msg=name)


def test_a_network_that_mindspore_converted_is_refused(pynative):
    network = nn.SequentialCell(nn.Dense(4, 3))
    mindspores_own.ConvertNetUtils().convert_to_thor_net(network)
    with pytest.raises(TypeError, match="^net=SequentialCell; must not hold DenseThor .*, a layer of MindSpore's THOR; "
                                        "leave its convert_to_thor_net out, thor.THOR does this itself$"):
        THOR(network, 0.1, 0.1, 0.9)
