"""From a data section to batches of images and labels."""
from __future__ import annotations

import os
from typing import Any

import mindspore as ms
import mindspore.dataset as ds
from mindspore.dataset import transforms

from models.data.augment import image_transforms
from models.data.encoded import CheckedImage
from models.data.epochs import TrainingDataset, held_out_part
from models.registry import dataset


def create_dataset(data_config: Any, train: bool, seed: int, num_shards: int | None = None,
                   shard_id: int | None = None) -> ds.Dataset:
    """Batches of (image, label): float32 (N, channels, image_size, image_size) and int32 (N,).

    Training batches are shuffled anew each epoch, augmented if ``data_config.augment``, and always full:
    what is left of an epoch is dropped. They come as a TrainingDataset, whose ``start_at(step)`` resumes
    anywhere. The order of an epoch is one permutation of all images whatever the number of devices: of R devices,
    device r takes every R-th image of it from the r-th on. Evaluation gives every held-out image exactly once, in a
    fixed order; the last batch may be smaller.

    Args:
        data_config: has name, path, batch_size, eval_batch_size, image_size, workers and augment.
        train: training images, or the held-out ones.
        seed: of order and augmentation. Augmentation also depends on the number of threads that run, which is
            ``data_config.workers`` but at most the number of cores.
        num_shards: parts the images are cut into, one for each device; None for no cut.
        shard_id: which part, 0 <= shard_id < num_shards.

    Raises:
        FileNotFoundError, NotADirectoryError: data.path or a file is missing; the message says what to do.
        ValueError: a file cannot be what its name says, or there are fewer training images than a batch.
    """
    if not train:
        samples = _source(data_config, False)
        if not samples.get_dataset_size():
            raise ValueError(f"data.path={data_config.path}; must have held-out images of {data_config.name}; there "
                             "are none")
        return _pipeline(data_config, False, held_out_part(samples, num_shards, shard_id))
    shards = {"num_shards": num_shards or 1, "shard_id": shard_id or 0}
    _check_batch_fits(data_config, _source(data_config, True, **shards).get_dataset_size())
    return TrainingDataset(lambda: _pipeline(data_config, True, _source(data_config, True, **shards)), seed,
                           ["image", "label"])


def _source(data_config: Any, train: bool, **shards: int) -> ds.Dataset:
    read = dataset(data_config.name).read
    return read(data_config, train, shuffle=train, num_parallel_workers=_workers(data_config), **shards)


def _workers(data_config: Any) -> int:
    return min(data_config.workers, os.cpu_count() or 1)


def _pipeline(data_config: Any, train: bool, samples: ds.Dataset) -> ds.Dataset:
    if dataset(data_config.name).encoded:
        samples = samples.map(CheckedImage(), "image", num_parallel_workers=_workers(data_config))
    images = samples.map(image_transforms(data_config, train), "image", num_parallel_workers=_workers(data_config))
    pairs = images.map(transforms.TypeCast(ms.int32), "label", num_parallel_workers=1)
    batch_size = data_config.batch_size if train else data_config.eval_batch_size
    return pairs.batch(batch_size, drop_remainder=train, num_parallel_workers=1)


def _check_batch_fits(data_config: Any, count: int) -> None:
    if data_config.batch_size > count:
        raise ValueError(f"data.batch_size={data_config.batch_size}; must be at most {count}, the training "
                         f"images of {data_config.name} on one device; use a smaller batch")
