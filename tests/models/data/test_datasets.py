"""Datasets: values, coverage, order, resume position, sharding."""
from __future__ import annotations

import mindspore.dataset as ds
import numpy as np
import pytest

from models.config.run import DataConfig
from models.data import create_dataset
from models.data.digits import digits_arrays
from models.data.epochs import epoch_seed
from tests.helpers.zoo_data import collect, digits_config, idx_arrays, image_folders, write_idx


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "mindspore-thor"


def plain(config: DataConfig, train: bool = False, **options):
    return create_dataset(config, train, seed=1, **options)


def test_digits_split_is_fixed_stratified_and_disjoint():
    images, labels = digits_arrays(True)
    held, held_labels = digits_arrays(False)
    assert images.shape == (1437, 8, 8, 1) and held.shape == (360, 8, 8, 1)
    assert held_labels.min() == 0 and abs(np.bincount(held_labels) - 36).max() <= 1
    assert images.max() == 255 and images.dtype == np.uint8
    both = {row.tobytes() for row in images} & {row.tobytes() for row in held}
    assert not both
    assert len(labels) + len(held_labels) == 1797


def test_evaluation_sees_every_held_out_digit_once_in_order_and_normalised():
    images, labels = collect(plain(digits_config(image_size=8)))
    held, held_labels = digits_arrays(False)
    assert images.dtype == np.float32 and labels.dtype == np.int32
    np.testing.assert_array_equal(labels, held_labels)
    expected = (held.transpose(0, 3, 1, 2) / 255.0 - 0.3053) / 0.3760
    np.testing.assert_allclose(images, expected, atol=1e-5)


def test_training_batches_are_full_and_shuffled_anew_each_epoch():
    dataset = plain(digits_config(augment=False), train=True)
    assert dataset.get_dataset_size() == 1437 // 32
    iterator = dataset.create_tuple_iterator(num_epochs=2, output_numpy=True)
    first, second = ([b[1] for b in iterator] for _ in range(2))
    assert {len(b) for b in first} == {32} and len(first) == 44
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))


def test_augmentation_shifts_training_digits_by_at_most_an_eighth():
    config = digits_config(image_size=8, workers=1)
    shifted = collect(plain(config, train=True))[0]
    still = collect(plain(digits_config(image_size=8, workers=1, augment=False), train=True))[0]
    background = still.min()
    padded = np.pad(still, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=background)
    crops = [padded[:, :, y:y + 8, x:x + 8] for y in range(3) for x in range(3)]
    matches = np.stack([np.isclose(shifted, crop, atol=1e-5).all((1, 2, 3)) for crop in crops])
    assert matches.any(0).all()
    assert matches.any(1).sum() == 9


@pytest.mark.parametrize("augment, workers, step", [
    (False, 1, 100), (True, 1, 7), (True, 1, 43), (True, 2, 44), (True, 2, 100), (True, 2, 131)])
def test_an_iterator_started_at_a_step_continues_order_and_augmentation(augment, workers, step):
    config = digits_config(augment=augment, workers=workers)
    iterator = plain(config, train=True).create_tuple_iterator(num_epochs=3, output_numpy=True)
    whole = [batch for _ in range(3) for batch in iterator]
    resumed = plain(config, train=True)
    resumed.start_at(step)
    iterator = resumed.create_tuple_iterator(num_epochs=3, output_numpy=True)
    rest = [batch for _ in range(step // 44, 3) for batch in iterator]
    assert len(rest) == len(whole) - step
    for (image, label), (other, other_label) in zip(rest, whole[step:]):
        np.testing.assert_array_equal(label, other_label)
        np.testing.assert_array_equal(image, other)


def test_opening_a_training_dataset_leaves_the_seed_of_the_process_alone():
    ds.config.set_seed(77)
    collect(plain(digits_config(), train=True))
    assert ds.config.get_seed() == 77 and ds.config.get_fast_recovery()


def test_seeds_differ_by_epoch_and_run():
    assert len({epoch_seed(seed, epoch) for seed in range(10) for epoch in range(10)}) == 100


def test_shards_cover_the_images_without_overlap():
    shards = [collect(plain(digits_config(eval_batch_size=7), num_shards=2, shard_id=i))[1] for i in range(2)]
    assert [len(s) for s in shards] == [180, 180]
    np.testing.assert_array_equal(np.sort(np.concatenate(shards)), np.sort(digits_arrays(False)[1]))


def test_held_out_parts_are_consecutive_and_lose_nothing():
    config = digits_config(eval_batch_size=50)
    whole = collect(plain(config))[1]
    for count in (1, 7):
        parts = [collect(plain(config, num_shards=count, shard_id=i))[1] for i in range(count)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    with pytest.raises(ValueError, match="360 held-out samples; must be at least 361, one for each device"):
        plain(digits_config(), num_shards=361, shard_id=0)


@pytest.mark.parametrize("epoch", [0, 1])
def test_several_devices_share_the_batches_of_one(epoch):
    """Device r of R has every R-th image of one permutation, so that R small batches are one large one."""
    def labels(batch_size, **shards):
        data = plain(digits_config(batch_size=batch_size), train=True, **shards)
        iterator = data.create_tuple_iterator(num_epochs=2, output_numpy=True)
        epochs = [[labels for _, labels in iterator] for _ in range(2)]
        return np.concatenate(epochs[epoch])

    whole = labels(12)
    for count in (2, 3):
        parts = [labels(12 // count, num_shards=count, shard_id=i) for i in range(count)]
        together = np.stack(parts, 1).reshape(-1)
        np.testing.assert_array_equal(together[:len(whole)], whole)


def test_more_workers_than_cores_are_clamped():
    assert len(collect(plain(digits_config(workers=4096)))[1]) == 360


def test_a_batch_larger_than_the_training_set_is_refused():
    with pytest.raises(ValueError, match="data.batch_size=2000; must be at most 1437, the training images"):
        plain(digits_config(batch_size=2000), train=True)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name, mean, std", [("mnist", 0.1307, 0.3081), ("fashion_mnist", 0.2860, 0.3530)])
def test_idx_files_plain_or_packed_give_their_images(tmp_path, packed, name, mean, std):
    images, labels = idx_arrays(25)
    write_idx(tmp_path, "t10k", images, labels, packed)
    got, got_labels = collect(plain(DataConfig(name=name, path=str(tmp_path), eval_batch_size=10)))
    np.testing.assert_array_equal(got_labels, labels)
    np.testing.assert_allclose(got[:, 0], (images / 255.0 - mean) / std, atol=1e-5)


def test_packed_files_are_unpacked_once_and_again_when_they_change(tmp_path, cache):
    config = DataConfig(name="mnist", path=str(tmp_path), batch_size=5)
    for count, folders in ((20, 1), (20, 1), (21, 2)):
        if count == 21 or folders == 1 and not cache.exists():
            write_idx(tmp_path, "train", *idx_arrays(count), packed=True)
        assert plain(config, train=True).get_dataset_size() == count // 5
        assert len(list(cache.iterdir())) == folders


def test_idx_images_grow_to_image_size(tmp_path):
    write_idx(tmp_path, "t10k", *idx_arrays(3))
    config = DataConfig(name="mnist", path=str(tmp_path), image_size=32, eval_batch_size=3)
    assert collect(plain(config))[0].shape == (3, 1, 32, 32)


def test_cifar10_binary_gives_its_images(tmp_path):
    rng = np.random.default_rng(0)
    records = np.zeros((10_000, 3073), np.uint8)
    records[:, 0] = np.arange(10_000) % 10
    records[:50, 1:] = rng.integers(0, 256, (50, 3072), np.uint8)
    (tmp_path / "test_batch.bin").write_bytes(records.tobytes())
    dataset = plain(DataConfig(name="cifar10", path=str(tmp_path), eval_batch_size=50))
    assert dataset.get_dataset_size() == 200
    images, labels = next(dataset.create_tuple_iterator(num_epochs=1, output_numpy=True))
    np.testing.assert_array_equal(labels, records[:50, 0])
    mean, std = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2470, 0.2435, 0.2616])
    expected = (records[:50, 1:].reshape(-1, 3, 32, 32) / 255.0 - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(images, expected, atol=1e-5)


@pytest.mark.parametrize("train, labels", [(True, [0, 0, 1, 1, 2, 2]), (False, [0, 2])])
def test_imagenet_folders_keep_training_labels_and_colours(tmp_path, train, labels):
    images, got = collect(plain(image_folders(tmp_path), train))
    assert images.shape == (len(labels), 3, 32, 32) and sorted(got) == labels
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    for image, label in zip(images, got):
        pixel = image.transpose(1, 2, 0) * std + mean
        np.testing.assert_allclose(pixel, np.broadcast_to(np.eye(3)[label], (32, 32, 3)), atol=0.02)


@pytest.mark.parametrize("path, eval_path", [("", "val"), ("train", "val"), ("train", "")])
def test_held_out_imagenet_folders_may_lie_elsewhere(tmp_path, path, eval_path):
    """Folders of classes as MindSpore's own scripts are given them; or one that holds val/, apart from training."""
    image_folders(tmp_path)
    apart = image_folders(tmp_path, path=str(tmp_path / path), eval_path=str(tmp_path / eval_path))
    assert sorted(collect(plain(apart, True))[1]) == [0, 0, 1, 1, 2, 2]
    assert sorted(collect(plain(apart, False))[1]) == [0, 2]


def test_an_evaluation_alone_takes_the_classes_that_are_there(tmp_path):
    image_folders(tmp_path)
    alone = image_folders(tmp_path, path=str(tmp_path / "val"))
    assert sorted(collect(plain(alone, False))[1]) == [0, 1]
    for config in (alone, image_folders(tmp_path, path=alone.path, eval_path=alone.path)):
        with pytest.raises(FileNotFoundError, match="val: has no folder train; set data.path to "):
            plain(config, True)
    with pytest.raises(FileNotFoundError, match="^data.eval_path=/no/such; no such folder; set data.path to "):
        plain(image_folders(tmp_path, eval_path="/no/such"), False)
