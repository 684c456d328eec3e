"""Image transforms of each dataset, run by MindSpore's C++ threads."""
from __future__ import annotations

from typing import Any

from mindspore.dataset import vision

# Mean and standard deviation of the training pixels, in units of the largest pixel value, by channel.
STATISTICS = {
    "digits": ([0.3053], [0.3760]),
    "mnist": ([0.1307], [0.3081]),
    "fashion_mnist": ([0.2860], [0.3530]),
    "cifar10": ([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]),
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
}
FLIPPED = ("fashion_mnist", "cifar10", "imagenet")


def image_transforms(data_config: Any, train: bool) -> list:
    """Transforms from an encoded (ImageNet) or uint8 (H, W, C) image to float32 (C, image_size, image_size).

    Training with ``augment``: ImageNet takes a random crop of 8 to 100 % of the area (Szegedy et al. 2015),
    the others a shift by up to 1/8 of the size; a random flip where a mirrored object is still the same
    object. Otherwise ImageNet is resized to 256/224 of ``image_size`` on its shorter side and cut out in the
    centre, the others are resized.
    """
    augment = train and data_config.augment
    size = data_config.image_size
    geometry = _imagenet(size, augment) if data_config.name == "imagenet" else _small(size, augment)
    if augment and data_config.name in FLIPPED:
        geometry.append(vision.RandomHorizontalFlip(0.5))
    mean, std = STATISTICS[data_config.name]
    normalize = vision.Normalize([255 * m for m in mean], [255 * s for s in std])
    return [*geometry, normalize, vision.HWC2CHW()]


def _imagenet(size: int, augment: bool) -> list:
    if augment:
        return [vision.RandomCropDecodeResize(size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))]
    return [vision.Decode(), vision.Resize(round(size * 256 / 224)), vision.CenterCrop(size)]


def _small(size: int, augment: bool) -> list:
    resize = [vision.Resize((size, size))]
    return [*resize, vision.RandomCrop(size, padding=max(1, size // 8))] if augment else resize
