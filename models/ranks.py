"""The processes that train together, one for each device. Importing this module does not import MindSpore."""
from __future__ import annotations

import dataclasses
import os

import numpy as np

from models.config import ParallelConfig
from models.config.errors import invalid

LONGEST_TEXT = 8192


@dataclasses.dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: 0 <= rank < count.
        count: processes.
    """

    rank: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and the screen."""
        return self.rank == 0

    @property
    def shards(self) -> dict[str, int]:
        """The part of the training data that is this process's, as arguments of a dataset."""
        return {} if self.count == 1 else {"num_shards": self.count, "shard_id": self.rank}

    def agree(self, text: str) -> str:
        """The first process's ``text``, on all of them."""
        if self.count == 1:
            return text
        padded = np.zeros(LONGEST_TEXT)
        if self.is_first:
            encoded = np.frombuffer(text.encode(), np.uint8)
            padded[:len(encoded)] = encoded
        return self.sum(padded).astype(np.uint8).tobytes().rstrip(b"\0").decode()

    def gather(self, values: np.ndarray) -> np.ndarray:
        """``values`` ``(n,)`` of every process, ``(count, n)``; exact for ints below 2^48."""
        own = np.zeros((self.count, len(values)))
        own[self.rank] = values
        return self.sum(own)

    def sum(self, values: np.ndarray) -> np.ndarray:
        """``values`` summed over all processes, float64 in about 48 bits."""
        if self.count == 1:
            return np.asarray(values, np.float64)
        from mindspore import Tensor

        from thor.reduction import AllReduce

        high = np.asarray(values, np.float32)
        low = (values - high).astype(np.float32)
        return sum(AllReduce(0)(Tensor(part)).asnumpy().astype(np.float64) for part in (high, low))


def started() -> int:
    """Processes msrun has started, 1 without it."""
    return int(os.environ.get("MS_WORKER_NUM", "1"))


def check_started(parallel: ParallelConfig) -> None:
    """ConfigError if parallel.device_num is not the number of processes that were started."""
    if parallel.device_num != started():
        where = "1 where one process trains" if started() == 1 else f"{started()}, the processes msrun has started"
        raise invalid("parallel.device_num", parallel.device_num, where,
                      "start several with scripts/run_distribute_train.sh, or use a configuration for one device "
                      "(..._1p.yaml)")


def join(parallel: ParallelConfig) -> Ranks:
    """Meet the other processes; after the device is chosen, to which MindSpore binds its communication, and before the
    network is built.

    Raises:
        ConfigError: as ``check_started``.
    """
    check_started(parallel)
    if parallel.device_num == 1:
        return Ranks()
    import mindspore as ms
    from mindspore.communication import get_group_size, get_rank, init

    init()
    fusion = parallel.all_reduce_fusion_config
    ms.set_auto_parallel_context(parallel_mode=ms.ParallelMode.DATA_PARALLEL, device_num=get_group_size(),
                                 gradients_mean=parallel.gradients_mean,
                                 **({} if fusion is None else {"all_reduce_fusion_config": list(fusion)}))
    return Ranks(get_rank(), get_group_size())
