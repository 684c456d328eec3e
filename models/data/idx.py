"""MNIST and Fashion-MNIST: IDX files (http://yann.lecun.com/exdb/mnist), plain or gzipped."""
from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import mindspore.dataset as ds

from models.data.errors import require_folder

IMAGE_MAGIC, LABEL_MAGIC = 2051, 2049
SIDE = 28
REMEDIES = {
    "mnist": "put the four IDX files of MNIST there or set data.path",
    "fashion_mnist": "on Debian `apt-get install dataset-fashion-mnist` puts the files under "
                     "/usr/share/datasets/fashion-mnist; set data.path",
}


def idx_source(data_config: Any, train: bool, **options: Any) -> ds.Dataset:
    """(image uint8 (28, 28, 1), label) read by MindSpore's C++ reader; ``options`` as of MnistDataset."""
    remedy = REMEDIES.get(data_config.name, "put four IDX files named as those of MNIST there or set data.path")
    folder = require_folder(data_config.path, remedy)
    prefix = "train" if train else "t10k"
    files = [_find(folder, f"{prefix}-{kind}", remedy) for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")]
    plain = _plain_folder(files)
    try:
        _check(plain, files)
    except ValueError:  # of the files, or of what was unpacked from them before and is damaged
        shutil.rmtree(plain, ignore_errors=True)
        plain = _plain_folder(files)
        _check(plain, files)
    return ds.MnistDataset(str(plain), "train" if train else "test", **options)


def _check(plain: Path, files: list[Path]) -> None:
    """ValueError naming the user's file if what was made of it in ``plain`` is not whole."""
    images, labels = (plain / _plain_name(file) for file in files)
    count = _check_images(images, files[0])
    if _check_labels(labels, files[1]) != count:
        raise ValueError(f"{files[1]}: number of labels is not {count}, the number of images of "
                         f"{files[0].name}; download both files again")


def _find(folder: Path, name: str, remedy: str) -> Path:
    spellings = (name, name.replace("-idx", ".idx"))
    for candidate in (folder / (spelling + suffix) for suffix in ("", ".gz") for spelling in spellings):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"{folder / name}: neither it nor {name}.gz exists; {remedy}")


def _plain_name(file: Path) -> str:
    return file.name.removesuffix(".gz").replace(".idx", "-idx")


def _cache_root() -> Path:
    """Folder for unpacked files: mindspore-thor in the user's cache folder, else in the temporary folder."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    for root in (base / "mindspore-thor", Path(tempfile.gettempdir()) / f"mindspore-thor-{os.getuid()}"):
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(root, os.W_OK):
            return root
    raise OSError(f"{base} and {tempfile.gettempdir()} cannot be written; set XDG_CACHE_HOME to a folder "
                  "that can")


def _plain_folder(files: list[Path]) -> Path:
    """A folder that holds ``files`` unpacked and nothing else, which MindSpore's reader insists on.

    It is made once: its name comes from the paths, sizes and times of ``files``. Files already plain are
    linked.
    """
    facts = [(str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    root = _cache_root()
    folder = root / f"idx-{hashlib.sha256(repr(facts).encode()).hexdigest()[:16]}"
    if folder.is_dir():
        return folder
    making = Path(tempfile.mkdtemp(prefix="making-", dir=root))
    try:
        for file in files:
            _unpack(file, making / _plain_name(file))
        try:
            making.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise another process was faster
                raise
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def _unpack(file: Path, target: Path) -> None:
    if file.suffix != ".gz":
        target.symlink_to(file.resolve())
        return
    try:
        with gzip.open(file) as packed, open(target, "wb") as plain:
            header = packed.read(16)
            plain.write(header)
            left = _whole_size(header) - len(header) + 1  # one byte more shows that there are more
            while left > 0 and (block := packed.read(min(left, 1 << 20))):
                plain.write(block)
                left -= len(block)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{file}: not a complete gzip file ({error}); download it again") from None
    except OSError as error:
        raise OSError(f"{file}: cannot be unpacked to {target.parent.parent}: {error.strerror}; make room there or set "
                      "XDG_CACHE_HOME to another folder") from None


def _whole_size(header: bytes) -> int:
    """Bytes of a file that begins with ``header``, as far as it says."""
    magic, count = struct.unpack(">2i", header[:8]) if len(header) >= 8 else (0, 0)
    return {IMAGE_MAGIC: 16 + count * SIDE * SIDE, LABEL_MAGIC: 8 + count}.get(magic, len(header))


def _header(plain: Path, file: Path, fields: int, magic: int) -> tuple[int, ...]:
    try:
        with open(plain, "rb") as stream:
            header = stream.read(4 * fields)
    except OSError as error:
        raise ValueError(f"{file}: cannot be read: {error.strerror}") from None
    if len(header) < 4 * fields:
        raise ValueError(f"{file}: {len(header)} bytes are too few for an IDX header; download it again")
    found, *sizes = struct.unpack(f">{fields}i", header)
    if found != magic:
        raise ValueError(f"{file}: starts with {found}, an IDX file of this kind with {magic}; download it "
                         "again")
    return tuple(sizes)


def _check_size(plain: Path, file: Path, expected: int) -> None:
    size = plain.stat().st_size
    if size != expected:
        found = f"{size} bytes unpacked" if size < expected else f"more than {expected} bytes unpacked"
        raise ValueError(f"{file}: {found}, its header says {expected}; download it again")


def _check_images(plain: Path, file: Path) -> int:
    """Number of images in ``plain``, unpacked from ``file``; ValueError if it is not whole."""
    count, height, width = _header(plain, file, 4, IMAGE_MAGIC)
    if (height, width) != (SIDE, SIDE):
        raise ValueError(f"{file}: images of {height}x{width} pixels; must be {SIDE}x{SIDE}; use the "
                         "original files")
    _check_size(plain, file, 16 + count * height * width)
    if not count:
        raise ValueError(f"{file}: holds no images; download it again")
    return count


def _check_labels(plain: Path, file: Path) -> int:
    """Number of labels in ``plain``, unpacked from ``file``; ValueError if it is not whole."""
    count, = _header(plain, file, 2, LABEL_MAGIC)
    _check_size(plain, file, 8 + count)
    highest = max(plain.read_bytes()[8:], default=0)
    if highest > 9:
        raise ValueError(f"{file}: label {highest}; must be 0 to 9; use the original files")
    return count
