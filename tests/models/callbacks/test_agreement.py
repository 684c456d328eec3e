"""Ranks that are no longer the same stop the run."""
from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from models.callbacks.agreement import Agreement, RanksDifferError, check_agreement, checksum
from models.config import ParallelConfig
from tests.helpers.fake_run import fake_session


def test_a_checksum_sees_a_single_bit():
    values = np.ones((3, 4), np.float32)
    other = values.copy()
    other.view(np.uint32)[1, 2] ^= 1
    assert checksum(values) == checksum(values.copy()) != checksum(other)


def test_the_first_difference_is_named():
    sums = np.array([[1, 2, 3], [1, 2, 3], [1, 5, 6]])
    check_agreement(sums[:2], ["a", "b", "c"], 40)
    with pytest.raises(RanksDifferError, match=r"ranks \[2\] differ from rank 0 after batch 40 in 2 of 3 parameters, "
                                               r"the first b; go on from the newest checkpoint"):
        check_agreement(sums, ["a", "b", "c"], 40)


def test_ranks_are_compared_every_so_many_batches():
    session = fake_session()
    state, seen = SimpleNamespace(session=session, batches=0), []
    session.config = SimpleNamespace(parallel=ParallelConfig(check_every=3))

    def gather(values):
        seen.append((state.batches, len(values)))
        return np.stack([values, values + (state.batches == 6)])

    session.ranks = SimpleNamespace(gather=gather)
    callback = Agreement(state)
    for state.batches in range(1, 6):
        callback.on_train_step_end(None)
    assert seen == [(3, len(list(session.optimizer.get_parameters())))]
    state.batches = 6
    with pytest.raises(RanksDifferError, match=r"ranks \[1\] differ from rank 0 after batch 6"):
        callback.on_train_step_end(None)
