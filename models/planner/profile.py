"""What a device and its network can do, as measured or assumed: the numbers predictions are made of."""
from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from models.config import ConfigError
from models.config.section import Section
from models.config.yaml_nodes import read_file, to_text
from models.planner.network import Cluster, Link
from thor.checks import Check, flag, integer, number, optional, setting

REQUIRED = dataclasses.MISSING


class ProfileError(ValueError):
    """A profile that cannot be used; one line, ``name=value; must be ...; do ...``."""


class ProfileSection(Section):
    """A frozen dataclass that checks its fields.

    Raises:
        ProfileError: a value cannot be used.
    """

    def __post_init__(self) -> None:
        try:
            super().__post_init__()
        except ConfigError as error:
            raise ProfileError(error.message) from None


def _words(default: Any = REQUIRED) -> Any:
    """Text that is not empty."""
    def parse(value: Any) -> str:
        if not isinstance(value, str) or not value.strip():
            raise ValueError
        return value
    return setting(default, Check("text", parse), "put it in quotes")


def _rate() -> Any:
    return setting(REQUIRED, number(above=0), "measure it or state what you assume")


def _latency() -> Any:
    return setting(REQUIRED, number(minimum=0), "give seconds a message")


def _count() -> Any:
    return setting(REQUIRED, integer(1), "count the devices")


def _measured() -> Any:
    return setting(None, optional(number(above=0), "nothing known"), "measure it or state what you assume")


def _switch(default: bool) -> Any:
    return setting(default, flag(), "use one of the two")


def _width() -> Any:
    """Bytes of a number."""
    def parse(value: Any) -> int:
        if value not in (2, 4):
            raise ValueError
        return value
    return setting(4, Check("2 or 4", parse), "use 2 for float16, 4 for float32")


def _results() -> Any:
    def parse(value: Any) -> tuple[Published, ...]:
        if not all(isinstance(entry, Published) for entry in value):
            raise ValueError
        return tuple(value)
    return setting((), Check("a list of results", parse), "see configs/profiles/ascend910.yaml")


@dataclasses.dataclass(frozen=True)
class Published(ProfileSection):
    """A result to hold predictions against.

    Args:
        config: how the names of the configuration files it belongs to begin, such as ``resnet50_imagenet``.
        devices: that were used.
        source: where it was published.
        minutes: of the whole training.
        stale_seconds, refresh_seconds: of a step.
        calibrated: the profile was fitted to it, so that agreement is no evidence.
    """

    config: str = _words()
    devices: int = _count()
    source: str = _words()
    minutes: float | None = _measured()
    stale_seconds: float | None = _measured()
    refresh_seconds: float | None = _measured()
    calibrated: bool = _switch(False)


@dataclasses.dataclass(frozen=True)
class DeviceProfile(ProfileSection):
    """One kind of device.

    Args:
        name: of the device.
        description: where the numbers come from: machine, date, versions.
        forward_backward_flops: operations a second in the forward and backward pass of a network.
        precondition_flops: in the block products of preconditioning, every step.
        covariance_flops: in covariances of blocks, counted as half of a full product.
        inverse_flops: in damped inverses of blocks, counted as ``size ** 3`` a block.
        copy_bytes: bytes a second that are copied, each counted once.
        memory_gib: of a device.
        devices_per_node: devices that the intra-node link connects.
        intra_node_latency, inter_node_latency: alpha, seconds a message.
        intra_node_bandwidth, inter_node_bandwidth: beta, bytes a second that a device sends.
        overlap: of the communication that could hide behind the backward pass, the share that does, 0 to 1.
        fuses_gradients: gradients travel in the groups of all_reduce_fusion_config (one, if there are no cuts); if not,
            each parameter is a message.
        activation_bytes: bytes of a number the forward pass keeps, 2 or 4.
        published: results to hold predictions against.

    Raises:
        ProfileError: a value cannot be used.
    """

    name: str = _words()
    description: str = _words()
    forward_backward_flops: float = _rate()
    precondition_flops: float = _rate()
    covariance_flops: float = _rate()
    inverse_flops: float = _rate()
    copy_bytes: float = _rate()
    memory_gib: float = _rate()
    devices_per_node: int = _count()
    intra_node_latency: float = _latency()
    intra_node_bandwidth: float = _rate()
    inter_node_latency: float = _latency()
    inter_node_bandwidth: float = _rate()
    overlap: float = setting(0.0, number(minimum=0, maximum=1, requirement="a number from 0 to 1"),
                             "use 0 if communication waits for the backward pass, 1 if it hides behind it")
    fuses_gradients: bool = _switch(True)
    activation_bytes: int = _width()
    published: tuple[Published, ...] = _results()

    @property
    def cluster(self) -> Cluster:
        """The network of devices."""
        return Cluster(self.devices_per_node, Link(self.intra_node_latency, self.intra_node_bandwidth),
                       Link(self.inter_node_latency, self.inter_node_bandwidth))


def load_profile(path: str | Path) -> DeviceProfile:
    """Read a profile.

    Raises:
        ProfileError: one line with the file of what is wrong.
    """
    try:
        values = {key: plain(node) for key, node in read_file(Path(path)).value.items()}
    except ConfigError as error:
        raise ProfileError(str(error).replace("the config", "the profile")) from None
    try:
        published = values.pop("published", None) or []
        if not isinstance(published, list):
            raise ProfileError(f"published={published!r}; must be a list of results; "
                               "see configs/profiles/ascend910.yaml")
        return build(DeviceProfile, {**values, "published": tuple(build(Published, entry) for entry in published)})
    except ProfileError as error:
        raise ProfileError(f"{path}: {error}") from None


def dump_profile(profile: DeviceProfile) -> str:
    """The profile as YAML; ``load_profile`` of it gives an equal one."""
    values = dataclasses.asdict(profile)
    published = values.pop("published")
    return to_text({**values, **({"published": list(published)} if published else {})})


def plain(node: Any) -> Any:
    """The value in a YAML node, mappings as dicts."""
    value = getattr(node, "value", node)
    return {key: plain(child) for key, child in value.items()} if isinstance(value, dict) else value


def build(kind: type, values: Any) -> Any:
    """A dataclass from a mapping; unknown and missing keys are errors."""
    known = dataclasses.fields(kind)
    names = [field.name for field in known]
    if not isinstance(values, dict):
        raise ProfileError(f"{values!r}; must be a mapping with the keys {', '.join(names)}")
    for key in values:
        if key not in names:
            raise ProfileError(f"unknown key {key}; must be one of {', '.join(names)}; remove it")
    for field in known:
        if field.default is dataclasses.MISSING and field.name not in values:
            raise ProfileError(f"{field.name} is missing; measure it with python -m models.planner --measure, or state "
                               "what you assume")
    return kind(**values)
