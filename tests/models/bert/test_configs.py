"""BERT's configurations hold the published numbers, and their cuts fit the networks they are for."""
from __future__ import annotations

import dataclasses

import mindspore as ms
import pytest

from models.bert.network import BertForPretraining
from models.config import load_config
from tests.helpers import CONFIGS
from thor import THOR

BERT = CONFIGS / "bert"
SIZES = {  # vocabulary, hidden, layers, heads, intermediate; batch a device with THOR and with LAMB
    "base": ((21128, 768, 12, 12, 3072), 64, 256), "nezha": ((21128, 1024, 24, 16, 4096), 96, 96),
    "large": ((30522, 1024, 24, 16, 4096), 12, 24)}


@pytest.mark.parametrize("device", ["ascend", "gpu"])
@pytest.mark.parametrize("name", SIZES)
def test_thor_is_as_published(name, device):
    config = load_config(BERT / f"bert_{name}_{device}_8p.yaml")
    sizes, batch, _ = SIZES[name]
    bert, options = config.model.bert, config.optimizer
    assert (bert.vocab_size, bert.hidden_size, bert.layers, bert.heads, bert.intermediate_size) == sizes
    assert (bert.dropout, bert.attention_dropout, bert.max_positions, bert.initializer_range) == (0.1, 0.1, 512, 0.02)
    relative = (True, "learned", 16) if name == "nezha" else (False, "sinusoids", 64)
    assert (bert.relative_positions, bert.relative_table, bert.max_distance) == relative
    assert bert.layer_norm_epsilon == 1e-7
    assert bert.activation == ("fast_gelu" if name == "large" else "gelu")
    assert (config.data.batch_size, config.loss_scale.value) == (batch, 1024)
    assert (options.momentum, options.frequency, options.clip, options.decay_filter) == (0.9, 100, True, "no_bias_norm")
    rate, damping = options.learning_rate, options.damping
    assert (rate.schedule, rate.initial, rate.final, rate.power) == ("polynomial", 0.006464, 1e-6, 2)
    assert (damping.schedule, damping.initial, damping.final, damping.power) == ("polynomial", 0.007035, 1e-6, 4)
    assert rate.end_epoch * config.train.sink_size == damping.end_epoch * config.train.sink_size == 30000
    assert config.train.epochs * config.train.sink_size == 3000
    assert config.parallel.device_num == 8
    assert config.device.target.lower() == device
    assert config.train.amp_level == ("O2" if device == "ascend" or name == "base" else "O0")


@pytest.mark.parametrize("device", ["ascend", "gpu"])
@pytest.mark.parametrize("name", SIZES)
def test_lamb_is_as_mindspores_bert_program_sets_it(name, device):
    config = load_config(BERT / f"bert_{name}_lamb_{device}_8p.yaml")
    options, rate = config.optimizer, config.optimizer.learning_rate
    assert (options.name, options.beta1, options.beta2, options.epsilon) == ("lamb", 0.99, 0.999, 1e-8)
    assert (options.weight_decay, options.decay_filter) == (0.01, "no_bias_norm")
    assert (rate.initial, rate.final, rate.power) == (3e-4, 0, 2)
    assert rate.warmup_epochs * config.train.sink_size == 10000
    assert config.data.batch_size == SIZES[name][2]
    assert (config.loss_scale.policy, config.loss_scale.init, config.loss_scale.window) == ("dynamic", 65536, 1000)
    assert config.model == load_config(BERT / f"bert_{name}_{device}_8p.yaml").model


@pytest.mark.usefixtures("pynative")
@pytest.mark.parametrize("name", SIZES)
def test_the_cuts_fit_the_network(name):
    config = load_config(BERT / f"bert_{name}_ascend_8p.yaml")
    narrow = dataclasses.replace(config.model.bert, vocab_size=20, hidden_size=16, heads=4, intermediate_size=8,
                                 max_positions=4)
    network = BertForPretraining(narrow)
    assert config.parallel.all_reduce_fusion_config[-1] == {"base": 205, "nezha": 420, "large": 397}[name]
    assert config.parallel.all_reduce_fusion_config[-1] == len(network.trainable_params()) - 1
    cuts = config.optimizer.split_indices
    THOR(network, 0.1, 0.1, 0.9, split_indices=cuts)  # refuses cuts beyond its layers
    assert cuts == {"base": (28, 55, 77), "nezha": None, "large": (38, 93, 149)}[name]
    assert all(parameter.dtype == ms.float32 for parameter in network.get_parameters() if parameter.requires_grad)


def test_the_small_lamb_differs_in_its_optimizer_only():
    thor, lamb = (load_config(BERT / name) for name in ("bert_small.yaml", "bert_small_lamb.yaml"))
    assert (thor.optimizer.name, lamb.optimizer.name) == ("thor", "lamb")
    assert (thor.model, thor.data, thor.train, thor.seed) == (lamb.model, lamb.data, lamb.train, lamb.seed)
