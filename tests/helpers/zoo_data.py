"""Small dataset files for tests."""
from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np

from models.config.run import DataConfig


def idx_arrays(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 28, 28), np.uint8), (np.arange(count) % 10).astype(np.uint8)


def write_idx(folder: Path, prefix: str, images: np.ndarray, labels: np.ndarray,
              packed: bool = False) -> None:
    files = {f"{prefix}-images-idx3-ubyte": struct.pack(">4i", 2051, *images.shape) + images.tobytes(),
             f"{prefix}-labels-idx1-ubyte": struct.pack(">2i", 2049, len(labels)) + labels.tobytes()}
    for name, content in files.items():
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, 1))
        else:
            (folder / name).write_bytes(content)


def collect(dataset) -> tuple[np.ndarray, np.ndarray]:
    """All images and labels of one epoch, concatenated."""
    batches = list(dataset.create_tuple_iterator(num_epochs=1, output_numpy=True))
    return np.concatenate([b[0] for b in batches]), np.concatenate([b[1] for b in batches])


def digits_config(**changes) -> DataConfig:
    settings = dict(name="digits", batch_size=32, eval_batch_size=100, image_size=16)
    return DataConfig(**{**settings, **changes})


def write_image(path: Path, colour: tuple[int, int, int]) -> None:
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (80, 60), colour).save(path, quality=95)


COLOURS = {"ant": (255, 0, 0), "bee": (0, 255, 0), "cat": (0, 0, 255)}


def image_folders(tmp_path: Path, **changes) -> DataConfig:
    """Two training images of each of three classes, and a held-out one of two."""
    for name, colour in COLOURS.items():
        for i in range(2):
            write_image(tmp_path / "train" / name / f"{i}.JPEG", colour)
        if name != "bee":
            write_image(tmp_path / "val" / name / "0.jpg", colour)
    settings = dict(name="imagenet", path=str(tmp_path), batch_size=3, eval_batch_size=5, image_size=32)
    return DataConfig(**{**settings, **changes})
