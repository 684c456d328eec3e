"""Which settings are read by whom: by which optimizer, policy, schedule, network, dataset or kind of device.

The one table of it. A setting that nothing reads in a configuration is refused unless it is at its default
(:func:`refuse_unread`). Where a file that extends another, or the command line, chooses anew (another optimizer,
another policy), what was given beneath it for the earlier choice is put aside (:func:`put_aside`). A number that
switches something off, such as no decay, no momentum, no dropout or one device, leaves the settings of that thing read:
a run goes on with another number of devices.
"""
from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from models import registry
from models.config.companions import DELAYED, OPTIMIZERS, SECOND_ORDER, WHOLE, base_of, preset, slow_weights
from models.config.errors import invalid
from models.config.section import Section
from thor.checks import shortened
from thor.options import PreconditionerOptions

NAME = "optimizer.name"
# Settings of the section optimizer that only these optimizers read; weight_decay, clip_norm and all that is not here
# or below is read by all.
OPTIMIZER_READERS: dict[str, tuple[str, ...]] = {
    "momentum": (*SECOND_ORDER, "momentum", "sgd", "lars", "muon", "heun", "dcasgd"),
    "nesterov": (*SECOND_ORDER, "momentum", "sgd", "adam", "lars", "muon"),
    "decay_filter": tuple(name for name in OPTIMIZERS if name != "lars"),
    "groups": tuple(name for name in OPTIMIZERS if name not in ("lars", "lamb")),
    "beta1": ("adam", "adamw", "lamb", "radam", "muon", "shampoo", "soap", "ranger"),
    "beta2": (*SECOND_ORDER, "adam", "adamw", "lamb", "radam", "muon", "shampoo", "soap", "ranger"),
    "epsilon": ("adam", "adamw", "lamb", "lars", "radam", "muon", "soap", "ranger"),
    "lars_coefficient": ("lars",),
    **dict.fromkeys(("frequency", "split_dim"), (*SECOND_ORDER, "shampoo", "soap")),
    **dict.fromkeys(("damping", "clip", "split_indices"), SECOND_ORDER),
    **dict.fromkeys((field.name for field in dataclasses.fields(PreconditionerOptions)
                     if field.name not in ("beta2", "split_dim")), SECOND_ORDER),
    **dict.fromkeys(("compensation", "delay"), DELAYED),
}


@dataclasses.dataclass(frozen=True)
class Rule:
    """Settings that are read under a condition.

    Attributes:
        settings: dotted names; that of a section means all in it.
        by: dotted names of the settings that decide.
        read: whether they are read, a function of the values of ``by``.
        readers: completes "only ... read it".
    """

    settings: tuple[str, ...]
    by: tuple[str, ...]
    read: Callable[..., bool]
    readers: str


def _one_of(by: str, readers: tuple[str, ...], *settings: str) -> Rule:
    return Rule(settings, (by,), lambda value: value in readers, _listed(readers))


def _listed(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _of_optimizers(readers: tuple[str, ...], *settings: str) -> Rule:
    return Rule(settings, (NAME,), lambda name: base_of(name) in readers or name in readers, _listed(readers))


def _network_reads(setting: str) -> Rule:
    names = tuple(name for name in registry.network_names() if setting in registry.network(name).settings)
    return Rule((f"model.{setting}",), ("model.name",), lambda name: setting in registry.network(name).settings,
                _listed(names) if names else "networks registered with it")


def _by_task(reads_text: bool, tells_next: bool, readers: str, *settings: str) -> Rule:
    def read(name: str) -> bool:
        network = registry.network(name)
        return (network.reads_text, network.tells_next) == (reads_text, tells_next)
    return Rule(settings, ("model.name",), read, readers)


def rules() -> Iterator[Rule]:
    """All rules; those of networks and datasets are of what is registered now."""
    for setting, names in OPTIMIZER_READERS.items():
        yield _of_optimizers(names, f"optimizer.{setting}")
    yield Rule(("optimizer.lookahead",), (NAME,), slow_weights, "ranger and lookahead(...)")
    yield _of_optimizers(SECOND_ORDER, "curvature", "parallel.curvature")
    yield Rule(("optimizer.beta2",), (NAME, "optimizer.rule"),
               lambda name, rule: base_of(name) not in SECOND_ORDER or rule != "momentum",
               "those with rule=adamw or normalized")
    yield Rule(("optimizer.graft", "optimizer.kl_clip", "optimizer.clip_norm"), ("optimizer.rule",),
               lambda rule: rule in ("momentum", "adamw"), "those with another rule")
    yield Rule(("optimizer.pi_correction",), ("optimizer.relative_damping",), lambda relative: not relative,
               "those without relative_damping")
    yield Rule(("optimizer.nesterov", "optimizer.clip"), ("optimizer.rule",), lambda rule: rule == "momentum",
               "those with rule=momentum")
    rate, damping, update = "optimizer.learning_rate", "optimizer.damping", "curvature.update"
    yield _one_of(f"{rate}.schedule", ("cosine", "polynomial"), f"{rate}.final")
    yield _one_of(f"{rate}.schedule", ("thor", "cosine", "polynomial"), f"{rate}.end_epoch")
    yield _one_of(f"{rate}.schedule", ("thor",), f"{rate}.decay", f"{rate}.decay_epochs")
    yield _one_of(f"{rate}.schedule", ("polynomial",), f"{rate}.power")
    yield _one_of(f"{damping}.schedule", ("thor",), f"{damping}.decay")
    yield _one_of(f"{damping}.schedule", ("polynomial",), *(f"{damping}.{x}" for x in ("final", "end_epoch", "power")))
    yield _one_of(f"{update}.policy", ("growing", "trace", "frobenius"), f"{update}.intervals")
    yield _one_of(f"{update}.policy", ("trace",), f"{update}.w1", f"{update}.w2")
    yield _one_of(f"{update}.policy", ("frobenius",), f"{update}.alpha")
    yield Rule((f"{update}.unit",), (f"{update}.intervals",), lambda pairs: pairs is not None, "intervals")
    yield Rule(("optimizer.frequency",), (f"{update}.intervals",), lambda pairs: pairs is None,
               "policies without intervals")
    yield Rule(("optimizer.compensation.decay",), ("optimizer.compensation.adaptive",), bool, "adaptive compensations")
    yield _one_of("loss_scale.policy", ("fixed",), "loss_scale.value")
    yield _one_of("loss_scale.policy", ("dynamic",), *(f"loss_scale.{name}" for name in ("init", "factor", "window")))
    yield from _of_model_and_data()
    yield Rule(("train.keep_best", "train.early_stop"), ("train.eval_every_epochs",), bool,
               "runs with train.eval_every_epochs")
    yield Rule(("train.early_stop.min_delta",), ("train.early_stop.patience",), lambda patience: patience is not None,
               "runs with train.early_stop.patience")
    yield Rule(("train.sink_size",), ("train.sink",), bool, "runs with train.sink")
    yield from _of_devices()


def _of_model_and_data() -> Iterator[Rule]:
    for setting in ("stem", "base_width", "zero_gamma", "geometry"):
        yield _network_reads(setting)
    yield _by_task(True, False, "networks that read sentence pairs", "model.bert")
    yield _by_task(True, True, "networks that tell the next token", "model.gpt")
    yield _by_task(False, False, "networks that read images", "model.num_classes", "model.in_channels",
                   "data.image_size", "data.augment", "loss", "train.keep_batchnorm_fp32")
    bert = "model.bert"
    yield Rule((f"{bert}.max_distance", f"{bert}.relative_table"), (f"{bert}.relative_positions",), bool,
               "networks with relative_positions")
    yield Rule(("data.path",), ("data.name",), lambda name: name not in registry.dataset_names() or
               registry.dataset(name).has_files, "datasets with files")
    apart = [name for name in registry.dataset_names() if registry.dataset(name).held_out_apart]
    yield Rule(("data.eval_path",), ("data.name",), lambda name: name not in registry.dataset_names() or name in apart,
               _listed((*apart, "text")))


def _of_devices() -> Iterator[Rule]:
    yield _one_of("device.target", ("CPU",), "device.convolution_isa")
    yield _one_of("device.target", ("GPU", "Ascend"), "device.device_id")
    yield _one_of("train.amp_level", ("O2", "O3"), "train.keep_batchnorm_fp32")


def refuse_unread(config: Section) -> None:
    """Refuse what is set and not read.

    Raises:
        ConfigError: for the first such setting: its name, its value, what decides and who reads it.
    """
    name = config.optimizer.name
    for rule in rules():
        if rule.read(*(_value(config, by) for by in rule.by)):
            continue
        for setting in _leaves(type(config), rule.settings):
            value = _value(config, setting)
            if value != default(type(config), setting, name):
                deciding = " and ".join(f"{by}={shortened(str(_value(config, by)))}" for by in rule.by)
                raise invalid(setting, value, f"left out with {deciding}", f"only {rule.readers} read it")


def put_aside(kind: type[Section], layers: Sequence[dict[str, Any]]) -> set[str]:
    """What was given for a choice that a higher layer has made anew, and that is not read now, or that an optimizer
    whose settings belong together brings along.

    Args:
        kind: the class of the whole configuration.
        layers: values by dotted name as they were written, the lowest first.
    """
    final = {name: value for layer in layers for name, value in layer.items()}
    brought, named = _brought_anew(layers, final), _highest(layers, [NAME])
    found = {name for name in brought if -1 < _highest(layers, [name]) < named}
    final = {name: value for name, value in final.items() if name not in found}
    for rule in rules():
        try:
            read = rule.read(*(_parsed(kind, by, final) for by in rule.by))
        except (ValueError, TypeError, KeyError):
            continue  # not a value of that setting: refused when its section is built
        if not read:
            chosen = max(_highest(layers, rule.by), named if brought & set(rule.by) else -1)
            found |= {name for name in _leaves(kind, rule.settings) if -1 < _highest(layers, [name]) < chosen}
    return found


def _brought_anew(layers: Sequence[dict[str, Any]], final: dict[str, Any]) -> set[str]:
    """What an optimizer brings whose settings belong together, where a lower layer had chosen another one."""
    names = [str(layer[NAME]).strip().lower() for layer in layers if NAME in layer]
    if not names or base_of(names[-1]) not in WHOLE or set(names) == {names[-1]}:
        return set()
    return set(_brought(preset(final[NAME])))


def _brought(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Names of settings within sections."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _brought(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def default(kind: type[Section], setting: str, optimizer: Any) -> Any:
    """The value of a setting that is not given; the optimizer's name may bring one."""
    brought: Any = preset(optimizer)
    for part in setting.split("."):
        brought = brought.get(part, {}) if isinstance(brought, dict) else {}
    return _field(kind, setting).default if isinstance(brought, dict) else brought


def _highest(layers: Sequence[dict[str, Any]], names: Iterable[str]) -> int:
    """The highest layer that gives one of ``names``, -1 if none does."""
    return max((i for i, layer in enumerate(layers) for name in names if name in layer), default=-1)


def _parsed(kind: type[Section], setting: str, values: dict[str, Any]) -> Any:
    if setting not in values:
        return default(kind, setting, values.get(NAME))
    return _field(kind, setting).metadata["check"].parse(values[setting])


def _value(config: Section, setting: str) -> Any:
    for part in setting.split("."):
        config = getattr(config, part)
    return config


def _field(kind: type[Section], setting: str) -> dataclasses.Field:
    *sections, leaf = setting.split(".")
    for part in sections:
        kind = kind.subsections()[part]
    return next(field for field in dataclasses.fields(kind) if field.name == leaf)


def _leaves(kind: type[Section], names: Iterable[str]) -> Iterator[str]:
    """``names``, with those of sections replaced by all settings in them."""
    for name in names:
        inside = kind
        for part in name.split("."):
            inside = inside.subsections().get(part) if inside is not None else None
        if inside is None:
            yield name
        else:
            yield from _leaves(kind, (f"{name}.{field.name}" for field in dataclasses.fields(inside)))
