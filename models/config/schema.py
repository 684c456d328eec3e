"""The whole configuration."""
from __future__ import annotations

import dataclasses
from typing import Any

from models.config.companions import preset
from models.config.curvature import CurvatureConfig
from models.config.errors import invalid
from models.config.optimization import LossScaleConfig, OptimizerConfig
from models.config.readers import refuse_unread
from models.config.run import TEXT, DataConfig, DeviceConfig, LossConfig, ModelConfig, ParallelConfig, TrainConfig
from models.config.section import Section, subsection
from models.registry import dataset_names, network
from thor.checks import Check, integer, setting
from thor.options import CurvatureOptions, PreconditionerOptions


def _module_names() -> Check:
    """Names of Python modules, one or a list, kept as a tuple."""
    def parse(value: Any) -> tuple[str, ...]:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, (list, tuple)):
            raise ValueError
        if not all(isinstance(name, str) and all(map(str.isidentifier, name.split("."))) for name in names):
            raise ValueError
        if any(len(name) > 255 for name in names):
            raise ValueError("use shorter names")
        return tuple(names)
    return Check("a list of names of Python modules", parse)


@dataclasses.dataclass(frozen=True)
class Config(Section):
    """One training or evaluation run. Values left to an image dataset are filled in: of what the network reads, nothing
    in ``model`` is null. What is set and read by nothing is refused, see models.config.readers.

    Attributes:
        seed: of weights, data order and augmentation; int from 0 to 2**32 - 1.
        imports: modules of one's own that are imported before anything else is read, to register networks and
            datasets (models.registry).
    """

    seed: int = setting(1, integer(0, 2 ** 32 - 1))
    imports: tuple[str, ...] = setting((), _module_names(), "use e.g. [my_module]")
    device: DeviceConfig = subsection(DeviceConfig)
    model: ModelConfig = subsection(ModelConfig)
    data: DataConfig = subsection(DataConfig)
    loss: LossConfig = subsection(LossConfig)
    optimizer: OptimizerConfig = subsection(OptimizerConfig)
    curvature: CurvatureConfig = subsection(CurvatureConfig)
    loss_scale: LossScaleConfig = subsection(LossScaleConfig)
    train: TrainConfig = subsection(TrainConfig)
    parallel: ParallelConfig = subsection(ParallelConfig)

    @property
    def curvature_options(self) -> CurvatureOptions:
        """The options of THOR."""
        options = {field.name: getattr(self.optimizer, field.name) for field in
                   dataclasses.fields(PreconditionerOptions)}
        options["pi_correction"] &= not self.optimizer.relative_damping  # of a preset
        return CurvatureOptions(**options, subsample=self.curvature.subsample,
                                share_inverses=self.parallel.curvature == "hybrid",
                                record_curvature=self.curvature.record)

    @property
    def refresh_interval(self) -> int:
        """Steps from one refresh of curvature to the next; where they grow, at the end of training."""
        intervals = self.curvature.update.intervals
        return self.optimizer.frequency if intervals is None else intervals[-1][1]

    @classmethod
    def presets(cls, values: dict[str, Any]) -> dict[str, Any]:
        """What the optimizer's name sets where nothing else does."""
        optimizer = values.get("optimizer")
        return preset(optimizer.get("name")) if isinstance(optimizer, dict) else {}

    def check_together(self) -> None:
        if self.model.reads_text != (self.data.name == TEXT):
            wanted = TEXT if self.model.reads_text else "one of " + ", ".join(dataset_names())
            raise invalid("data.name", self.data.name, f"{wanted} for {self.model.name}")
        refuse_unread(self)
        if not self.model.reads_text:
            self._check_images()
        warmup = self.optimizer.learning_rate.warmup_epochs
        if warmup >= self.train.epochs:
            raise invalid("optimizer.learning_rate.warmup_epochs", warmup, "less than train.epochs",
                          f"train.epochs is {self.train.epochs}")

    def _check_images(self) -> None:
        self._fill_in_model()
        facts, dataset = self.data.facts, self.data.name
        if self.model.num_classes < facts.num_classes:
            raise invalid("model.num_classes", self.model.num_classes,
                          f">= {facts.num_classes} for {dataset}", "leave it null for that")
        if self.model.in_channels != facts.channels:
            raise invalid("model.in_channels", self.model.in_channels, f"{facts.channels} for {dataset}",
                          "leave it null")
        sizes = network(self.model.name).image_sizes
        if sizes and self.data.image_size not in sizes:
            wanted = f"{' or '.join(map(str, sizes))} for {self.model.name}"
            raise invalid("data.image_size", self.data.image_size, wanted, f"set data.image_size to {sizes[-1]}")

    def _fill_in_model(self) -> None:
        facts, model = self.data.facts, self.model
        reads_stem = "stem" in network(model.name).settings
        filled = dataclasses.replace(
            model,
            num_classes=facts.num_classes if model.num_classes is None else model.num_classes,
            in_channels=facts.channels if model.in_channels is None else model.in_channels,
            stem=model.stem or ("imagenet" if self.data.image_size >= 64 else "small") if reads_stem else None)
        object.__setattr__(self, "model", filled)
