"""What faulty dataset files say: one line that names the file and the remedy."""
from __future__ import annotations

import gzip
import os
import struct
from pathlib import Path

import mindspore.dataset as ds
import numpy as np
import pytest

from models.config.run import DataConfig
from models.data import create_dataset, dataset_error_line
from models.data.cifar import FILE_BYTES
from models.registry import register_dataset, unregister_dataset
from models.train import main as train_main
from tests.helpers.zoo_data import collect, idx_arrays, image_folders, write_idx, write_image


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mindspore-thor"


def plain(config: DataConfig, train: bool = False):
    return create_dataset(config, train, seed=1)


def cut(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])


def blank(images: int, labels: int, side: int = 28, label: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((images, side, side), np.uint8), np.full(labels, label, np.uint8)


IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@pytest.mark.parametrize("packed, spoil, error, message", [
    (False, lambda d: (d / LABELS).unlink(), FileNotFoundError,
     f"{LABELS}: neither it nor {LABELS}.gz exists"),
    (False, lambda d: cut(d / IMAGES, 2000), ValueError, "2000 bytes unpacked, its header says 19616"),
    (False, lambda d: cut(d / IMAGES, 9), ValueError, "9 bytes are too few for an IDX header"),
    (False, lambda d: (d / IMAGES).write_bytes((d / LABELS).read_bytes()), ValueError,
     "starts with 2049, an IDX file of this kind with 2051"),
    (False, lambda d: write_idx(d, "t10k", *blank(25, 25, 32)), ValueError,
     "images of 32x32 pixels; must be 28x28"),
    (False, lambda d: write_idx(d, "t10k", *blank(25, 24)), ValueError,
     "number of labels is not 25"),
    (False, lambda d: write_idx(d, "t10k", *blank(1, 1, label=10)), ValueError,
     "label 10; must be 0 to 9"),
    (True, lambda d: cut(d / f"{IMAGES}.gz", 3000), ValueError, "not a complete gzip file"),
    (True, lambda d: (d / f"{IMAGES}.gz").write_bytes(b"plain text"), ValueError, "not a complete gzip file"),
    (False, lambda d: write_idx(d, "t10k", *blank(0, 0)), ValueError, "idx3-ubyte: holds no images; download it again"),
    (True, lambda d: (d / f"{IMAGES}.gz").write_bytes(gzip.compress(struct.pack(">4i", 2051, 1, 28, 28) + bytes(5000))),
     ValueError, "more than 800 bytes unpacked, its header says 800"),
])
def test_faulty_idx_files_are_named_in_one_line(tmp_path, cache, packed, spoil, error, message):
    write_idx(tmp_path, "t10k", *idx_arrays(25), packed)
    spoil(tmp_path)
    with pytest.raises(error, match=message) as caught:
        plain(DataConfig(name="mnist", path=str(tmp_path)))
    text = str(caught.value)
    assert "\n" not in text and str(tmp_path / "t10k-") in text and str(cache) not in text
    assert not list(cache.glob("making-*"))


@pytest.mark.parametrize("path, error, message", [
    ("", FileNotFoundError, "data.path is empty; on Debian `apt-get install dataset-fashion-mnist`"),
    ("/no/such/folder", FileNotFoundError, "data.path=/no/such/folder; no such folder; on Debian"),
    (__file__, NotADirectoryError, "is not a folder; on Debian")])
def test_a_wrong_path_is_named_with_the_remedy(path, error, message):
    with pytest.raises(error, match=message):
        plain(DataConfig(name="fashion_mnist", path=path))


@pytest.mark.parametrize("content, error, message", [
    (None, FileNotFoundError, "test_batch.bin: does not exist; unpack cifar-10-binary.tar.gz"),
    (b"short", ValueError, "test_batch.bin: 5 bytes; must be 30730000"),
    (b"\x80" + bytes(FILE_BYTES - 1), ValueError, "test_batch.bin: label of image 1 is 128; must be 0 to 9; it is "),
    (bytes(FILE_BYTES - 3073) + b"\x0a" + bytes(3072), ValueError,
     "test_batch.bin: label of image 10000 is 10; must be 0 to 9; it is damaged or not the binary version; unpack")])
def test_faulty_cifar10_files_are_named(tmp_path, content, error, message):
    if content is not None:
        (tmp_path / "test_batch.bin").write_bytes(content)
    with pytest.raises(error, match=message):
        plain(DataConfig(name="cifar10", path=str(tmp_path)))


@pytest.mark.parametrize("spoil, error, message", [
    (lambda d: (d / "train" / "dog").mkdir(), ValueError, "dog: holds no .jpg, .jpeg, .png image"),
    (lambda d: write_image(d / "val" / "dog" / "0.jpg", (0, 0, 0)), ValueError,
     "dog: is a class that .*train does"),
    (lambda d: (d / "val").rename(d / "other"), FileNotFoundError, "has no folder val or validation"),
    (lambda d: os.mkfifo(d / "val" / "ant" / "1.jpg"), ValueError, "1.jpg: is not a file; delete or replace it"),
    (lambda d: (d / "val" / "ant" / "1.jpg").symlink_to("nothing"), ValueError, "1.jpg: is not a file; delete or")])
def test_faulty_imagenet_folders_are_named(tmp_path, spoil, error, message):
    config = image_folders(tmp_path)
    spoil(tmp_path)
    with pytest.raises(error, match=message):
        plain(config)


@pytest.mark.parametrize("train, name", [(False, "val/ant/0.jpg"), (True, "train/ant/0.JPEG")])
@pytest.mark.parametrize("workers, keep", [(1, 100), (4, 300), (4, 610)])
def test_a_truncated_image_is_named_in_one_line(tmp_path, train, name, workers, keep):
    """MindSpore's decoder ends the process at 300 bytes, and does not end at 610."""
    config = image_folders(tmp_path, workers=workers)
    cut(tmp_path / name, keep)
    with pytest.raises(RuntimeError) as caught:
        collect(plain(config, train))
    line = f"{tmp_path / name}: ends within its header; it is truncated; delete or replace it"
    assert dataset_error_line(caught.value) == line


def test_a_truncated_image_ends_a_run_with_one_line(tmp_path, capsys):
    image_folders(tmp_path)
    cut(tmp_path / "train/bee/1.JPEG", 300)
    (tmp_path / "run.yaml").write_text(
        f"data: {{name: imagenet, path: {tmp_path}, batch_size: 3, image_size: 32}}\n"
        f"model: {{name: lenet5}}\noptimizer: {{name: momentum}}\ntrain: {{epochs: 1, run_dir: {tmp_path / 'runs'}}}\n")
    assert train_main(["--config", str(tmp_path / "run.yaml")]) == 1
    err = capsys.readouterr().err
    assert "Traceback" not in err and err.splitlines()[-1] == (
        f"error: {tmp_path}/train/bee/1.JPEG: ends within its header; it is truncated; delete or replace it")


def test_damaged_files_of_the_cache_are_made_again(tmp_path, cache):
    images, labels = idx_arrays(25)
    write_idx(tmp_path, "t10k", images, labels, packed=True)
    config = DataConfig(name="mnist", path=str(tmp_path), eval_batch_size=25)
    first = collect(plain(config))
    for spoil in (lambda path: cut(path, 500), Path.unlink):
        spoil(next(cache.iterdir()) / IMAGES)
        np.testing.assert_array_equal(collect(plain(config))[0], first[0])


def test_a_held_out_part_without_images_is_refused(tmp_path):
    def read(data_config, train, **_):
        samples = ds.NumpySlicesDataset({"image": np.zeros((4, 8, 8, 1)), "label": [0] * 4})
        return samples if train else samples.skip(4)
    register_dataset("none", num_classes=2, channels=1, image_size=8, mean=(0.5,), std=(0.5,))(read)
    try:
        with pytest.raises(ValueError, match=f"^data.path={tmp_path}; must have held-out images of none; there are"):
            plain(DataConfig(name="none", path=str(tmp_path)))
    finally:
        unregister_dataset("none")


def test_other_errors_are_not_dataset_errors():
    assert dataset_error_line(RuntimeError("something else")) == ""
