"""Turns of a timing: whole intervals between refreshes, from the first step of a run, never past its schedule."""
from __future__ import annotations

import json
from types import SimpleNamespace

import mindspore as ms
import numpy as np
import pytest
from mindspore import Parameter, Tensor

from models.compare import timing
from models.config import load_config

pytestmark = pytest.mark.usefixtures("pynative")


class FakeSession:
    """Three batches an epoch; writes the global step of every call to a list."""

    def __init__(self, config, seen):
        self.config, self.batches_per_epoch = config, 3
        self.optimizer = SimpleNamespace(global_step=Parameter(Tensor([7], ms.int32), name="global_step"))
        self.train_set = SimpleNamespace(create_tuple_iterator=lambda num_epochs: iter([(Tensor([1.0]),)]))
        self.seen = seen

    def step(self, batch):
        count = int(self.optimizer.global_step.asnumpy()[0])
        self.seen.append((self.config.optimizer.name, count))
        self.optimizer.global_step.set_data(Tensor([count + 1], ms.int32))
        return Tensor(0.5)


@pytest.mark.parametrize("epochs, thor_steps", [(40, 20), (5, 15)])
def test_every_optimizer_takes_whole_intervals_in_turn(epochs, thor_steps, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("models.session.create_session", lambda config: FakeSession(config, seen))
    monkeypatch.setattr(timing, "ROUNDS", 2)
    words = []
    for name, settings in (("thor", ", frequency: 20"), ("adam", "")):
        text = f"optimizer: {{name: {name}{settings}}}\ntrain: {{epochs: {epochs}}}"
        (tmp_path / f"{name}.yaml").write_text(text)
        words.append(f"{name}={tmp_path / name}.yaml")
    assert timing.main(["--output", "seconds.json", *words]) == 0
    thor, adam = ([("thor", i) for i in range(thor_steps)], [("adam", i) for i in range(timing.STEPS)])
    warm = [("adam", i) for i in range(timing.WARM_UP)]
    assert seen == thor + warm + (thor + adam) * 2
    seconds = json.loads(open("seconds.json", encoding="utf-8").read())
    assert list(seconds) == ["thor", "adam"] and all(len(values) == 2 for values in seconds.values())
    assert all(np.isfinite(value) and value >= 0 for values in seconds.values() for value in values)


def test_micro_batches_of_a_step_are_timed_together():
    seen = []
    session = FakeSession(load_config(None, ["--train.accumulate_steps=4", "--train.epochs=8"]), seen)
    assert timing.steps_of_the_run(session) == 6
    timing.turn(session, (Tensor([1.0]),), 3)
    assert len(seen) == 12
