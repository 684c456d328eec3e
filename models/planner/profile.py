"""What a device and its network can do, as measured or assumed: the numbers predictions are made of."""
from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from models.config import ConfigError
from models.config.yaml_nodes import read_file, to_text
from models.planner.network import Cluster, Link


class ProfileError(ValueError):
    """A profile that cannot be used; one line, ``name=value; must be ...; do ...``."""


@dataclasses.dataclass(frozen=True)
class Published:
    """A result to hold predictions against.

    Args:
        config: how the names of the configuration files it belongs to begin, such as ``resnet50_imagenet``.
        devices: that were used.
        source: where it was published.
        minutes: of the whole training.
        stale_seconds, refresh_seconds: of a step.
        calibrated: the profile was fitted to it, so that agreement is no evidence.
    """

    config: str
    devices: int
    source: str
    minutes: float | None = None
    stale_seconds: float | None = None
    refresh_seconds: float | None = None
    calibrated: bool = False

    def __post_init__(self) -> None:
        check_text(self, "config", "source")
        check_count(self, "devices")
        for name in ("minutes", "stale_seconds", "refresh_seconds"):
            if getattr(self, name) is not None:
                check_positive(self, name)
        check_flag(self, "calibrated")


@dataclasses.dataclass(frozen=True)
class DeviceProfile:
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

    name: str
    description: str
    forward_backward_flops: float
    precondition_flops: float
    covariance_flops: float
    inverse_flops: float
    copy_bytes: float
    memory_gib: float
    devices_per_node: int
    intra_node_latency: float
    intra_node_bandwidth: float
    inter_node_latency: float
    inter_node_bandwidth: float
    overlap: float = 0.0
    fuses_gradients: bool = True
    activation_bytes: int = 4
    published: tuple[Published, ...] = ()

    def __post_init__(self) -> None:
        check_text(self, "name", "description")
        check_positive(self, "forward_backward_flops", "precondition_flops", "covariance_flops", "inverse_flops",
                       "copy_bytes", "memory_gib", "intra_node_bandwidth", "inter_node_bandwidth")
        check_count(self, "devices_per_node")
        for name in ("intra_node_latency", "inter_node_latency"):
            check_number(self, name, 0.0, math.inf, "a number >= 0", "give seconds a message")
        check_number(self, "overlap", 0.0, 1.0, "a number from 0 to 1", "use 0 if communication waits for the backward "
                     "pass, 1 if it hides behind it")
        check_flag(self, "fuses_gradients")
        if self.activation_bytes not in (2, 4):
            raise wrong("activation_bytes", self.activation_bytes, "2 or 4", "use 2 for float16, 4 for float32")
        if not all(isinstance(entry, Published) for entry in self.published):
            raise wrong("published", self.published, "a list of results", "see configs/profiles/ascend910.yaml")

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
            raise wrong("published", published, "a list of results", "see configs/profiles/ascend910.yaml")
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


def wrong(name: str, value: Any, requirement: str, remedy: str) -> ProfileError:
    """``name=value; must be requirement; remedy``."""
    return ProfileError(f"{name}={value!r}; must be {requirement}; {remedy}")


def check_number(profile: Any, name: str, low: float, high: float, requirement: str, remedy: str) -> None:
    """A finite number from ``low`` to ``high``, kept as a float."""
    value = getattr(profile, name)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:
        raise wrong(name, value, requirement, remedy)
    object.__setattr__(profile, name, float(value))


def check_positive(profile: Any, *names: str) -> None:
    """Finite numbers above 0, kept as floats."""
    for name in names:
        check_number(profile, name, 5e-324, math.inf, "a number > 0", "measure it or state what you assume")


def check_count(profile: Any, name: str) -> None:
    """An int from 1 on."""
    value = getattr(profile, name)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise wrong(name, value, "an int >= 1", "count the devices")


def check_text(profile: Any, *names: str) -> None:
    """Text that is not empty."""
    for name in names:
        value = getattr(profile, name)
        if not isinstance(value, str) or not value.strip():
            raise wrong(name, value, "text", "put it in quotes")


def check_flag(profile: Any, name: str) -> None:
    """True or False."""
    if not isinstance(getattr(profile, name), bool):
        raise wrong(name, getattr(profile, name), "true or false", "use one of the two")
