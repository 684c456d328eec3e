"""Which samples come when, and whose they are.

Every epoch of training data is a function of (seed, epoch), so that a run resumes anywhere; held-out data are cut into
one part a device.
"""
from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import mindspore.dataset as ds
import numpy as np

# mindspore.dataset's seed belongs to the process; only one pipeline at a time may be built from it.
_SEEDING = threading.Lock()


def epoch_seed(seed: int, epoch: int) -> int:
    """Seed of one epoch's order and augmentation, 0 <= seed < 2**32; epochs count from 0."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


class EpochSource:
    """The batches of one epoch after another; ``source[i]`` is batch i of the present epoch.

    A MindSpore pipeline that goes through several epochs keeps random state in its operators that cannot be
    set, only replayed from the first epoch on. Here every epoch is a new pipeline with its own seed, and
    only the batches before the resumed one in the same epoch are replayed.

    Args:
        build: makes the pipeline of one epoch.
        seed: of order and augmentation.
    """

    def __init__(self, build: Callable[[], ds.Dataset], seed: int) -> None:
        self._build = build
        self._seed = seed
        self._batches = build().get_dataset_size()
        self._iterator: Any = None
        self._next = 0
        self.epoch = 0

    def __len__(self) -> int:
        return self._batches

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        if self._iterator is None or index != self._next:
            self._iterator = self._open(index)
        batch = next(self._iterator)
        self._next = index + 1
        if self._next == self._batches:
            self._iterator, self._next = None, 0
            self.epoch += 1
        return tuple(batch)

    def _open(self, index: int) -> Any:
        with _SEEDING:
            seed, fast_recovery = ds.config.get_seed(), ds.config.get_fast_recovery()
            try:
                ds.config.set_seed(epoch_seed(self._seed, self.epoch))
                ds.config.set_fast_recovery(False)  # replay augmentation too, not only order
                pipeline = self._build()
                if index:
                    pipeline.set_init_step(index)
                return pipeline.create_tuple_iterator(num_epochs=1, output_numpy=True, do_copy=False)
            finally:
                ds.config.set_seed(seed)
                ds.config.set_fast_recovery(fast_recovery)

    def start_at(self, epoch: int) -> None:
        """Make ``epoch`` the next one to be read."""
        self._iterator, self._next, self.epoch = None, 0, epoch


class TrainingDataset(ds.GeneratorDataset):
    """Shuffled, augmented training batches, a new order every epoch; see EpochSource.

    Args:
        build: makes the pipeline of one epoch.
        seed: of order and augmentation.
        columns: names of the columns of the pipeline.
    """

    def __init__(self, build: Callable[[], ds.Dataset], seed: int, columns: Sequence[str]) -> None:
        self._epochs = EpochSource(build, seed)
        super().__init__(self._epochs, list(columns), shuffle=False, num_parallel_workers=1,
                         python_multiprocessing=False)

    def start_at(self, step: int) -> None:
        """Let the next iterator begin with batch ``step``, counted from the start of training.

        Use it before Model.train(epochs, dataset, initial_epoch=step // dataset.get_dataset_size()).
        """
        self._epochs.start_at(step // len(self._epochs))
        self.set_init_step(step)


def held_out_part(samples: ds.Dataset, num_shards: int | None, shard_id: int | None) -> ds.Dataset:
    """Consecutive samples, so that every one is in exactly one part; all of them where ``num_shards`` is None.

    Raises:
        ValueError: there are fewer samples than parts.
    """
    if num_shards is None:
        return samples
    count = samples.get_dataset_size()
    if count < num_shards:
        raise ValueError(f"{count} held-out samples; must be at least {num_shards}, one for each device; hold out more")
    first, end = (count * part // num_shards for part in (shard_id, shard_id + 1))
    return samples.skip(first).take(end - first) if first else samples.take(end)
