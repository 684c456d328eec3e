"""What programs written for MindSpore's THOR pass and read."""
from __future__ import annotations

import pytest
from mindspore import Model, nn

from tests.helpers.training_cases import create, dataset
from thor import ConvertModelUtils


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
