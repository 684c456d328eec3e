"""Every configuration that is shipped loads; the ImageNet ones hold the published numbers."""
from __future__ import annotations

import pytest

from models.config import dump_config, load_config
from tests.helpers import CONFIGS

FILES = sorted(path for path in CONFIGS.rglob("*.yaml") if path.parent.name not in ("compare", "profiles"))


def test_the_expected_files_are_there():
    names = {path.relative_to(CONFIGS).as_posix() for path in FILES}
    assert {"resnet/resnet50_imagenet_ascend_8p.yaml", "resnet/resnet50_imagenet_gpu_8p.yaml",
            "resnet/resnet50_imagenet_ascend_1p.yaml", "resnet/resnet50_imagenet_gpu_1p.yaml",
            "resnet/resnet18_digits.yaml", "resnet/resnet18_fashion_mnist.yaml",
            "resnet/resnet18_cifar10.yaml", "lenet/lenet5_fashion_mnist.yaml"} <= names


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_file_loads_and_survives_a_dump(path, tmp_path):
    config = load_config(path)
    copy = tmp_path / "config.yaml"
    copy.write_text(dump_config(config))
    assert load_config(copy) == config


@pytest.mark.parametrize("device, epochs, rate, damping, every, fusion", [
    ("ascend", 45, (0.05803, 4.0839, 53), (0.03, 0.50036), 2, (80, 160)),
    ("gpu", 45, (0.05803, 4.0839, 53), (0.03, 0.50036), 1, (75, 155)),
])
def test_imagenet_on_8_devices_is_as_published(device, epochs, rate, damping, every, fusion):
    config = load_config(CONFIGS / f"resnet/resnet50_imagenet_{device}_8p.yaml")
    options, train = config.optimizer, config.train
    assert (config.model.name, config.model.num_classes, config.data.batch_size) == ("resnet50", 1001, 32)
    assert (config.loss_scale.policy, config.loss_scale.value) == ("fixed", 128)
    assert (options.name, options.momentum, options.weight_decay) == ("thor", 0.9, 5e-4)
    assert options.frequency == 834
    schedule = options.learning_rate
    assert (schedule.schedule, schedule.decay_epochs) == ("thor", 39)
    assert (schedule.initial, schedule.decay, schedule.end_epoch) == rate
    assert (options.damping.schedule, options.damping.initial, options.damping.decay) == ("thor", *damping)
    assert (options.split_indices, options.split_dim, options.decay_filter) == ((26, 53), 128, "all")
    assert config.loss.label_smoothing == 0.1
    precision = ("O2", True) if device == "gpu" else ("O3", False)
    assert (train.epochs, train.amp_level, train.keep_batchnorm_fp32) == (epochs, *precision)
    assert (train.checkpoint_every_epochs, train.checkpoint_keep) == (every, 15)
    assert (config.parallel.device_num, config.parallel.all_reduce_fusion_config) == (8, fusion)


@pytest.mark.parametrize("device", ["ascend", "gpu"])
def test_one_device_keeps_the_global_batch_of_eight(device):
    eight = load_config(CONFIGS / f"resnet/resnet50_imagenet_{device}_8p.yaml")
    one = load_config(CONFIGS / f"resnet/resnet50_imagenet_{device}_1p.yaml")
    assert (one.data.batch_size, one.train.accumulate_steps) == (32, 8)
    assert (eight.data.batch_size, eight.parallel.device_num) == (32, 8)
    assert one.optimizer == eight.optimizer
    assert one.parallel.device_num == 1


@pytest.mark.parametrize("path", [path for path in FILES if path.stem.endswith("_momentum")],
                         ids=lambda path: path.stem)
def test_momentum_files_change_the_optimizer_only(path):
    momentum = load_config(path)
    thor = load_config(path.with_name(path.name.replace("_momentum", "")))
    assert (momentum.optimizer.name, thor.optimizer.name) == ("momentum", "thor")
    assert (momentum.model, momentum.data, momentum.loss, momentum.train) == (
        thor.model, thor.data, thor.loss, thor.train)
