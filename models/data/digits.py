"""The 1797 handwritten digits of 8x8 pixels that ship with scikit-learn."""
from __future__ import annotations

from typing import Any

import mindspore.dataset as ds
import numpy as np

HELD_OUT = 360


def digits_arrays(train: bool) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N, 8, 8, 1), 0 to 255, and labels int32 (N,): 1437 for training or 360 held out.

    The split is fixed and stratified: it is the same on every machine and for every seed.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images, labels, test_size=HELD_OUT, stratify=labels, random_state=0)
    images, labels = (parts[0], parts[2]) if train else (parts[1], parts[3])
    pixels = np.rint(images * (255 / 16)).astype(np.uint8)
    return pixels.reshape(-1, 8, 8, 1), labels.astype(np.int32)


def digits_source(data_config: Any, train: bool, num_parallel_workers: int, **options: Any) -> ds.Dataset:
    """(image, label) of the digits; ``options`` are shuffle, num_shards and shard_id."""
    images, labels = digits_arrays(train)
    # One worker: the rows are in memory and the source runs Python.
    return ds.NumpySlicesDataset({"image": images, "label": labels}, num_parallel_workers=1, **options)
