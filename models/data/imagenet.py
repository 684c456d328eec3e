"""ImageNet as folders: one folder a class under train and val, or under folders of their own."""
from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import mindspore.dataset as ds

from models.data.errors import require_folder

EXTENSIONS = (".jpg", ".jpeg", ".png")
HELD_OUT_NAMES = ("val", "validation", "validation_preprocess", "test")
REMEDY = ("set data.path to the folder that holds train/ and val/ with one folder of images a class, or data.eval_path "
          "to the held-out images")


def imagenet_source(data_config: Any, train: bool, **options: Any) -> ds.Dataset:
    """(encoded image, label) from alphabetical class folders; ``options`` as of ImageFolderDataset."""
    root = require_folder(data_config.path, REMEDY)
    apart = data_config.eval_path and require_folder(data_config.eval_path, REMEDY, "data.eval_path")
    training = _training_folder(root, apart)
    folder = training if train else _held_out_folder(root, apart)
    if folder is None:
        raise FileNotFoundError(f"{root}: has no folder {'train' if train else ' or '.join(HELD_OUT_NAMES)}; {REMEDY}")
    classes = _check_classes(folder, data_config.facts.num_classes)
    if not train and training is not None:
        classes = _training_indices(folder, classes, training, data_config.facts.num_classes)
    return ds.ImageFolderDataset(str(folder), class_indexing=classes, extensions=_spellings(), **options)


def _training_folder(root: Path, apart: Path | None) -> Path | None:
    """Where the classes of training are: ``train`` in ``root``, or ``root`` itself if held-out images lie ``apart``."""
    inside = root / "train"
    if inside.is_dir():
        return inside
    return None if apart is None or apart.samefile(root) else root


def _held_out_folder(root: Path, apart: Path | None) -> Path | None:
    """The same for held-out images; all there is in ``root`` if it has no ``train``, as for an evaluation alone."""
    place = root if apart is None else apart
    for name in HELD_OUT_NAMES:
        if (place / name).is_dir():
            return place / name
    return None if (place / "train").is_dir() else place


def _training_indices(folder: Path, held_out: dict[str, int], training: Path, most: int) -> dict[str, int]:
    """Held-out classes with the indices training gave them, also when some have no held-out images."""
    indices = _check_classes(training, most)
    unknown = sorted(held_out.keys() - indices.keys())
    if unknown:
        raise ValueError(f"{folder / unknown[0]}: is a class that {training} does not have; {REMEDY}")
    return {name: indices[name] for name in held_out}


def _spellings() -> list[str]:
    return [*EXTENSIONS, *(extension.upper() for extension in EXTENSIONS), ".JPEG"]


def _check_classes(folder: Path, most: int) -> dict[str, int]:
    """Index of each class folder, in alphabetical order; ValueError if one is empty or they are too many."""
    names = sorted(entry.name for entry in os.scandir(folder)
                   if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise ValueError(f"{folder}: holds no class folders; {REMEDY}")
    if len(names) > most:
        raise ValueError(f"{folder}: holds {len(names)} class folders; must be at most {most}; {REMEDY}")
    for name in names:
        _check_class(folder / name)
    return {name: index for index, name in enumerate(names)}


def _check_class(folder: Path) -> None:
    """Refuse a folder without images, and what is named like an image but is none; files are not opened."""
    empty = True
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.lower().endswith(EXTENSIONS):
                empty = False
                if not entry.is_file():
                    raise ValueError(f"{folder / entry.name}: is not a file; delete or replace it")
    if empty:
        raise ValueError(f"{folder}: holds no {', '.join(EXTENSIONS)} image; remove it or fill it")
