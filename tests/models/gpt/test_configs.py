"""GPT's configurations: sizes as published, and cuts that fit the networks they are for."""
from __future__ import annotations

import dataclasses

import pytest

from models.config import load_config
from models.gpt.network import Gpt
from tests.helpers import CONFIGS
from thor import THOR

SIZES = {"small": (768, 12, 12, 3072), "medium": (1024, 24, 16, 4096)}  # hidden, layers, heads, intermediate


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_those_of_gpt2(name):
    config = load_config(CONFIGS / "gpt" / f"gpt2_{name}_ascend_8p.yaml")
    gpt = config.model.gpt
    assert (gpt.hidden_size, gpt.layers, gpt.heads, gpt.intermediate_size) == SIZES[name]
    assert (gpt.vocab_size, gpt.max_positions, gpt.activation, gpt.fused_qkv) == (50257, 1024, "gelu_tanh", True)
    assert (gpt.dropout, gpt.attention_dropout, gpt.initializer_range, gpt.layer_norm_epsilon) == (0.1, 0.1, 0.02, 1e-5)
    assert (config.device.target, config.parallel.device_num, config.train.amp_level) == ("Ascend", 8, "O2")


@pytest.mark.usefixtures("pynative")
@pytest.mark.parametrize("name", SIZES)
def test_the_cuts_end_with_layers_of_the_network(name):
    config = load_config(CONFIGS / "gpt" / f"gpt2_{name}_ascend_8p.yaml")
    network = Gpt(dataclasses.replace(config.model.gpt, vocab_size=20, hidden_size=16, heads=4, intermediate_size=8,
                                      max_positions=4))
    names = [parameter.name for parameter in network.trainable_params()]
    cuts = config.parallel.all_reduce_fusion_config
    assert cuts[-1] == len(names) - 1
    every = {"small": 2, "medium": 4}[name]
    assert [names[cut] for cut in cuts[:-1]] == [f"decoder_layers.{every * i - 1}.output.bias"
                                                 for i in range(1, len(cuts))]
    optimizer = THOR(network, 0.1, 0.1, 0.9, split_indices=config.optimizer.split_indices)  # refuses cuts beyond layers
    with_factors = [line.split()[0] for line in optimizer.registration_table().splitlines()
                    if "second order" in line and "squared gradient" not in line]
    third = config.model.gpt.layers // 3
    assert [with_factors[cut] for cut in config.optimizer.split_indices] == [
        f"decoder_layers.{third * i - 1}.output.weight" for i in (1, 2, 3)]
    assert config.optimizer.split_indices[-1] == len(with_factors) - 1
