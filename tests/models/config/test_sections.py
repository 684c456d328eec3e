"""Sections check themselves; what the dataset decides is filled in."""
from __future__ import annotations

import dataclasses

import pytest

from models.config import (
    Config,
    ConfigError,
    DampingConfig,
    DataConfig,
    DeviceConfig,
    LearningRateConfig,
    LossScaleConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
)


@pytest.mark.parametrize("build, expected", [
    (lambda: OptimizerConfig(name="thr"), "name='thr'; must be one of thor, thor_robust, kfac, spngd, momentum, sgd, "
     "adam, adamw, lars, lamb, radam, muon, shampoo, soap, heun, dcasgd, ranger, or lookahead(one of them); "
     "did you mean thor?"),
    (lambda: OptimizerConfig(frequency=True), "frequency=True; must be an int >= 1; use 1 to refresh "
                                              "curvature every step"),
    (lambda: OptimizerConfig(momentum=1), "momentum=1; must be a number >= 0 and < 1"),
    (lambda: OptimizerConfig(weight_decay=float("nan")), "weight_decay=nan; must be a number >= 0"),
    (lambda: OptimizerConfig(split_dim=0), "split_dim=0; must be an int >= 1, or null for whole factors"),
    (lambda: OptimizerConfig(split_indices=[26, 26]), "split_indices=[26, 26]; must be a non-empty list of "
     "ascending ints >= 0, or null for groups of at most 32 MiB"),
    (lambda: OptimizerConfig(learning_rate=0.1), "learning_rate=0.1; must be a LearningRateConfig"),
    (lambda: LearningRateConfig(initial="0.1"), "initial='0.1'; must be a number >= 0"),
    (lambda: LearningRateConfig(initial=1e39), "initial=1e+39; must be a number >= 0; float32 rounds it to inf, use a "
     "number it can hold"),
    (lambda: DampingConfig(initial=1e-46), "initial=1e-46; must be a number > 0; float32 rounds it to 0, use a number "
     "it can hold"),
    (lambda: DampingConfig(final=1e39), "final=1e+39; must be a number > 0; float32 rounds it to inf, use a number it "
     "can hold"),
    (lambda: LossScaleConfig(value=1e39), "value=1e+39; must be a number > 0; float32 rounds it to inf, use a number "
     "it can hold"),
    (lambda: OptimizerConfig(weight_decay=1e39), "weight_decay=1e+39; must be a number >= 0; float32 rounds it to inf, "
     "use a number it can hold"),
    (lambda: OptimizerConfig(beta2=1 - 1e-12), "beta2=0.999999999999; must be a number > 0 and < 1; float32 rounds it "
     "to 1, use a number it can hold"),
    (lambda: LossScaleConfig(factor=1.5), "factor=1.5; must be an int >= 2"),
    (lambda: DataConfig(path=3), "path=3; must be the path of a folder; put it in quotes"),
    (lambda: DeviceConfig(target="TPU"), "target='TPU'; must be one of CPU, GPU, Ascend; did you mean GPU?"),
    (lambda: TrainConfig(sink_size=0), "sink_size=0; must be -1 or an int >= 1; use -1 for a whole epoch"),
    (lambda: TrainConfig(keep_batchnorm_fp32="no"), "keep_batchnorm_fp32='no'; must be true or false, or "
                                                    "null for the level's own choice"),
    (lambda: Config(seed=-1), "seed=-1; must be an int from 0 to 4294967295"),
    (lambda: Config(model=ModelConfig(name="lenet5")), "data.image_size=8; must be 28 or 32 for lenet5; set "
                                                       "data.image_size to 32"),
    (lambda: Config(model=ModelConfig(in_channels=3)),
     "model.in_channels=3; must be 1 for digits; leave it null"),
    (lambda: Config(train=TrainConfig(epochs=2),
                    optimizer=OptimizerConfig(learning_rate=LearningRateConfig(warmup_epochs=2))),
     "optimizer.learning_rate.warmup_epochs=2.0; must be less than train.epochs; train.epochs is 2"),
])
def test_wrong_values_are_refused_by_the_section(build, expected):
    with pytest.raises(ConfigError) as raised:
        build()
    assert str(raised.value) == expected


def test_values_are_kept_in_their_own_type_and_spelling():
    config = OptimizerConfig(name="THOR", weight_decay=1, split_indices=[1, 2])
    assert (config.name, config.weight_decay, config.split_indices) == ("thor", 1.0, (1, 2))
    assert isinstance(config.weight_decay, float)
    assert DeviceConfig(target="ascend").target == "Ascend"


@pytest.mark.parametrize("name, classes, channels, size, stem", [
    ("digits", 10, 1, 8, "small"), ("mnist", 10, 1, 28, "small"), ("fashion_mnist", 10, 1, 28, "small"),
    ("cifar10", 10, 3, 32, "small"), ("imagenet", 1000, 3, 224, "imagenet")])
def test_dataset_decides_what_is_not_said(name, classes, channels, size, stem):
    config = Config(data=DataConfig(name=name, batch_size=24))
    model = config.model
    assert (model.num_classes, model.in_channels, model.stem) == (classes, channels, stem)
    assert (config.data.image_size, config.data.eval_batch_size) == (size, 24)


def test_what_is_said_wins_over_the_dataset():
    config = Config(data=DataConfig(name="imagenet", image_size=64, eval_batch_size=50),
                    model=ModelConfig(num_classes=1001, stem="small"))
    assert (config.model.num_classes, config.model.stem, config.data.image_size) == (1001, "small", 64)


def test_replace_checks_again_and_sections_are_frozen():
    config = Config()
    with pytest.raises(ConfigError, match="epochs=0"):
        dataclasses.replace(config.train, epochs=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 2


def test_every_setting_is_described_in_its_sections_docstring():
    missing = []

    def visit(section):
        for name in (field.name for field in dataclasses.fields(section)):
            if name in section.subsections():
                visit(section.subsections()[name])
            elif not any(name in (part.__doc__ or "") for part in section.__mro__):
                missing.append(f"{section.__name__}.{name}")
    visit(Config)
    assert missing == []
