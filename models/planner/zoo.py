"""From a configuration to a job, without its dataset: the network is built, called once and tapped."""
from __future__ import annotations

import dataclasses
import math
from typing import Any

import mindspore as ms
import numpy as np

from models.config import Config, changed
from models.planner.job import Job, JobLayer
from models.planner.trace import Trace, trace
from models.planner.work import work_of
from models.session import prepare_network
from thor.options import CurvatureOptions
from thor.registration import tap_network

MASKED_SHARE = 0.15


class JobError(ValueError):
    """A configuration that cannot be planned; one line, ``name=value; must be ...; do ...``."""


def job_of(config: Config, name: str = "", sequence_length: int | None = None) -> Job:
    """The job of a configuration, from one forward pass of a single sample.

    Args:
        config: of a run; the network is built on its device, see :func:`on_cpu`.
        name: of the configuration.
        sequence_length: tokens of a sequence of text; None for the longest the network takes.

    Raises:
        JobError: the optimizer is not second-order, or the sequence is too long.
    """
    check(config, sequence_length)
    network = build_network(config)
    batch = make_batch(config, 1, sequence_length)
    found = trace(network, lambda: network(*_inputs_of(config, batch)))
    weights = sum(parameter.size for parameter in network.get_parameters())
    registration = tap_network(network, unrecorded(config))
    layers = [layer for layer in registration.layers if layer.factors]
    return Job(
        name=name, layers=tuple(_job_layer(layer, found, config) for layer in layers),
        parameters=_gradient_order(registration.parameters(), layers), weights=weights,
        other_flop=config.data.batch_size * other_flop(found, layers),
        activations=config.data.batch_size * found.activations, description=describe(config, batch),
        epoch_steps=config.train.sink_size if config.train.sink and config.train.sink_size > 0 else None,
        samples=None if config.model.reads_text else config.data.facts.training_images, **settings(config))


def check(config: Config, sequence_length: int | None) -> None:
    """Refuse what cannot be planned."""
    if not config.optimizer.second_order:
        raise JobError(f"optimizer.name={config.optimizer.name!r}; must be thor, thor_robust, kfac or spngd; "
                       "set --optimizer.name thor")
    if sequence_length is not None and not config.model.reads_text:
        raise JobError(f"--sequence-length={sequence_length}; must be left out for {config.model.name}, which reads "
                       "images; set --data.image_size")
    longest, section = config.model.transformer.max_positions, "gpt" if config.model.tells_next else "bert"
    if sequence_length is not None and sequence_length > longest:
        raise JobError(f"--sequence-length={sequence_length}; must be at most {longest}, the positions of the network; "
                       f"raise --model.{section}.max_positions")


def build_network(config: Config) -> Any:
    """The network on the configuration's device."""
    return prepare_network(config)[0]


def on_cpu(config: Config) -> Config:
    """The same run on the CPU, where any can be planned."""
    return changed(config, {"device.target": "CPU"})


def unrecorded(config: Config) -> CurvatureOptions:
    """The options of THOR without what is measured for people alone."""
    return dataclasses.replace(config.curvature_options, record_curvature=False)


def settings(config: Config) -> dict[str, Any]:
    """The fields of a job that are settings of the configuration."""
    options, parallel = config.optimizer, config.parallel
    return {"batch_size": config.data.batch_size, "micro_batches": config.train.accumulate_steps,
            "split_dim": options.split_dim, "frequency": config.refresh_interval,
            "split_indices": options.split_indices, "gradient_cuts": parallel.all_reduce_fusion_config,
            "epochs": config.train.epochs}


def _job_layer(layer: Any, found: Trace, config: Config) -> JobLayer:
    """A tapped layer with the counts of one sample scaled to the batch."""
    batch, key = config.data.batch_size, id(layer.weight)
    shapes = tuple(tuple(factor.shape) for factor in layer.factor_parameters.values())
    if not layer.has_kronecker_factors:
        return JobLayer(None, 0.0, shapes)
    samples = found.rows.get(key, 0) * batch // config.curvature.subsample
    return JobLayer(work_of(layer, samples), found.flop.get(key, 0.0) * batch, shapes)


def other_flop(found: Trace, layers: list) -> float:
    """Operations with weights that no layer with factors owns."""
    owned = {id(layer.weight) for layer in layers}
    return sum(flop for key, flop in found.flop.items() if key not in owned)


def _gradient_order(parameters: list, layers: list) -> tuple[tuple[int, int], ...]:
    """``(numbers, layer)`` of trainable parameters; one without factors counts to the layer before it."""
    owner = {id(parameter): i for i, layer in enumerate(layers) for parameter in layer.parameters}
    order, last = [], 0
    for parameter in parameters:
        last = owner.get(id(parameter), last)
        order.append((parameter.size, last))
    return tuple(order)


def _inputs_of(config: Config, batch: tuple) -> tuple:
    """What of a batch is the network's; the rest is the loss's."""
    if config.model.tells_next:
        return (batch[0][:, :-1],)
    return batch[:4 if config.model.reads_text else 1]


def make_batch(config: Config, count: int, sequence_length: int | None = None) -> tuple:
    """Random images and labels, the inputs of ``models.bert.loss.BertPretrainingLoss`` with 15 % masked words, or of
    ``models.gpt.loss.NextTokenLoss``.
    """
    random, model, data = np.random.default_rng(config.seed), config.model, config.data
    if not model.reads_text:
        shape = (count, model.in_channels, data.image_size, data.image_size)
        return (ms.Tensor(random.standard_normal(shape, np.float32)),
                ms.Tensor(random.integers(0, model.num_classes, count), ms.int32))
    tokens = sequence_length or model.transformer.max_positions
    if model.tells_next:
        return (ms.Tensor(random.integers(0, model.gpt.vocab_size, (count, tokens + 1)), ms.int32),)
    masked = math.ceil(MASKED_SHARE * tokens)
    ids = random.integers(0, model.bert.vocab_size, (count, tokens))
    positions = np.tile(np.arange(masked), (count, 1))
    arrays = (ids, np.zeros_like(ids), np.ones_like(ids), positions, ids[:, :masked])
    return (*(ms.Tensor(array.astype(np.int32)) for array in arrays), ms.Tensor(np.ones((count, masked), np.float32)),
            ms.Tensor(random.integers(0, 2, count).astype(np.int32)))


def describe(config: Config, batch: tuple) -> str:
    """The network, its input and its batch in words."""
    shape = "x".join(map(str, _inputs_of(config, batch)[0].shape[1:]))
    unit = "tokens" if config.model.reads_text else "images"
    micro = f" in {config.train.accumulate_steps} micro-batches each" if config.train.accumulate_steps > 1 else ""
    return (f"{config.model.name}, {shape} {unit}, batch {config.data.batch_size} a device{micro}, split_dim "
            f"{config.optimizer.split_dim}, frequency {config.refresh_interval}")
