"""Files of weights: MindSpore's checkpoints, safetensors and, where torch is installed, its state dictionaries."""
from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np
from mindspore import Tensor

from models.checkpoint_file import check_sealed, load
from models.command_line import one_line
from models.files import replacing
from thor.checks import shortened
from thor.companions.lookahead import evaluation_values

CHECKPOINT, SAFETENSORS, TORCH = ".ckpt", ".safetensors", (".pth", ".pt", ".bin")
SUFFIXES = (CHECKPOINT, SAFETENSORS, *TORCH)
NESTED = ("state_dict", "model")  # where training scripts of torch keep the weights


def check_suffix(path: Path, label: str) -> None:
    """ValueError for a file of no known kind, or of torch where that is not installed."""
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{label}={path}; must end in one of {', '.join(SUFFIXES)}; rename it")
    if path.suffix in TORCH:
        try:
            import torch  # noqa: F401
        except ImportError:
            raise ValueError(f"{label}={path}; needs torch, which is not installed; pip install torch, or use a "
                             f"{SAFETENSORS} file") from None


def read_weights(path: Path, label: str) -> dict[str, np.ndarray]:
    """Arrays by name; of a checkpoint of Lookahead its slow weights.

    Args:
        path: of the file, whose suffix says what it is.
        label: what errors call it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or is damaged.
    """
    check_suffix(path, label)
    if not path.is_file():
        raise FileNotFoundError(f"{label}={path}; is not a file; give the path of one with weights")
    try:
        contents = _read(path)
    except Exception as error:  # safetensors and torch raise of their own
        raise ValueError(f"{label}={path}; cannot be read as {path.suffix[1:]} ({shortened(one_line(error))}); it may "
                         "be truncated, damaged or another kind of file; use another one") from error
    return contents


def _read(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == CHECKPOINT:
        contents = load(path)
        check_sealed(path, contents)
        return {name: value.asnumpy() for name, value in evaluation_values(contents).items()
                if isinstance(value, Tensor)}
    if path.suffix == SAFETENSORS:
        from safetensors.numpy import load_file

        return load_file(path)
    return _read_torch(path)


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    import torch

    contents: Any = torch.load(path, map_location="cpu", weights_only=True)
    for key in NESTED:
        if isinstance(contents.get(key), Mapping):
            contents = contents[key]
    return {name: value.detach().to(torch.float32).numpy() for name, value in contents.items()
            if isinstance(value, torch.Tensor) and value.is_floating_point()}


def write_weights(path: Path, arrays: Mapping[str, np.ndarray], for_torch: bool) -> None:
    """Write a file that appears at ``path`` only when it is whole.

    Args:
        path: of the file, whose suffix says what it becomes.
        arrays: by name.
        for_torch: libraries around torch are to read it; they ask a safetensors file for that.

    Raises:
        WriteError: it cannot be written.
    """
    with replacing(path) as part:
        if path.suffix == CHECKPOINT:
            written = part.with_suffix(f"{part.suffix}{CHECKPOINT}")  # MindSpore would add the suffix
            ms.save_checkpoint([{"name": name, "data": Tensor(array)} for name, array in arrays.items()], str(written))
            written.replace(part)
        elif path.suffix == SAFETENSORS:
            from safetensors.numpy import save_file

            save_file(dict(arrays), part, metadata={"format": "pt"} if for_torch else None)
        else:
            import torch

            torch.save({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, part)
