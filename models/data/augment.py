"""Image transforms of each dataset, run by MindSpore's C++ threads."""
from __future__ import annotations

from typing import Any

from mindspore.dataset import vision

from models.registry import dataset


def image_transforms(data_config: Any, train: bool) -> list:
    """Transforms from an encoded or uint8 (H, W, C) image to float32 (C, image_size, image_size).

    Training with ``augment``: encoded images, as of ImageNet, take a random crop of 8 to 100 % of the area (Szegedy
    et al. 2015), the others a shift by up to 1/8 of the size; a random flip where a mirrored object is still the
    same object. Otherwise encoded images are resized to 256/224 of ``image_size`` on their shorter side and cut out
    in the centre, the others are resized.
    """
    augment, size, facts = train and data_config.augment, data_config.image_size, dataset(data_config.name)
    geometry = _encoded(size, augment) if facts.encoded else _plain(size, augment)
    if augment and facts.flips:
        geometry.append(vision.RandomHorizontalFlip(0.5))
    normalize = vision.Normalize([255 * m for m in facts.mean], [255 * s for s in facts.std])
    return [*geometry, normalize, vision.HWC2CHW()]


def _encoded(size: int, augment: bool) -> list:
    if augment:
        return [vision.RandomCropDecodeResize(size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))]
    return [vision.Decode(), vision.Resize(round(size * 256 / 224)), vision.CenterCrop(size)]


def _plain(size: int, augment: bool) -> list:
    resize = [vision.Resize((size, size))]
    return [*resize, vision.RandomCrop(size, padding=max(1, size // 8))] if augment else resize
