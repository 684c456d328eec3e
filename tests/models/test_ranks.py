"""Joining the other processes: refused where their number is not the configuration's."""
from __future__ import annotations

import pytest

from models.config import ConfigError, ParallelConfig
from models.ranks import Ranks, join


def test_one_process_takes_all_data_and_agrees_with_itself(monkeypatch):
    monkeypatch.delenv("MS_WORKER_NUM", raising=False)
    ranks = join(ParallelConfig())
    assert ranks == Ranks(0, 1) and ranks.is_first and ranks.shards == {}
    assert ranks.agree("a path") == "a path"


def test_shards_of_several():
    assert Ranks(1, 4).shards == {"num_shards": 4, "shard_id": 1}
    assert not Ranks(1, 4).is_first


@pytest.mark.parametrize("started, wanted, message", [
    (None, 8, "parallel.device_num=8; must be 1 where one process trains; start several with scripts/"),
    ("2", 1, "parallel.device_num=1; must be 2, the processes msrun has started; start several with"),
    ("2", 8, "parallel.device_num=8; must be 2, the processes msrun has started"),
])
def test_other_numbers_of_processes_are_refused(monkeypatch, started, wanted, message):
    monkeypatch.delenv("MS_WORKER_NUM", raising=False)
    if started:
        monkeypatch.setenv("MS_WORKER_NUM", started)
    with pytest.raises(ConfigError) as raised:
        join(ParallelConfig(device_num=wanted))
    assert message in str(raised.value)
