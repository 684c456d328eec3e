"""CIFAR-10, binary version (https://www.cs.toronto.edu/~kriz/cifar.html)."""
from __future__ import annotations

from pathlib import Path
from typing import Any

import mindspore.dataset as ds
import numpy as np

from models.data.errors import require_folder

RECORD = 1 + 3 * 32 * 32
FILE_BYTES = 10_000 * RECORD
REMEDY = "unpack cifar-10-binary.tar.gz and set data.path to its folder cifar-10-batches-bin"


def cifar10_source(data_config: Any, train: bool, **options: Any) -> ds.Dataset:
    """(image uint8 (32, 32, 3), label) read by MindSpore's C++ reader; ``options`` as of Cifar10Dataset."""
    folder = require_folder(data_config.path, REMEDY)
    names = [f"data_batch_{i}.bin" for i in range(1, 6)] if train else ["test_batch.bin"]
    for name in names:
        _check(folder / name)
    return ds.Cifar10Dataset(str(folder), "train" if train else "test", **options)


def _check(file: Path) -> None:
    if not file.is_file():
        raise FileNotFoundError(f"{file}: does not exist; {REMEDY}")
    size = file.stat().st_size
    if size != FILE_BYTES:
        raise ValueError(f"{file}: {size} bytes; must be {FILE_BYTES} (10000 images); download it again")
    labels = np.memmap(file, np.uint8, "r")[::RECORD]
    wrong = np.flatnonzero(labels > 9)
    if wrong.size:
        raise ValueError(f"{file}: label of image {wrong[0] + 1} is {labels[wrong[0]]}; must be 0 to 9; it is damaged "
                         f"or not the binary version; {REMEDY}")
