"""Preconditioned updates of every layer type against an explicit (A x G) solve in float64.

All layers train side by side in one network, so that each mode compiles one graph for all of them.
"""
from __future__ import annotations

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from tests.helpers.layer_cases import BATCH, CASES, DAMPING, Branches, Options, value
from thor import THOR
from thor.train import make_train_step

# Each kind of layer is compiled once: with the options that it reads, or without.
WITH_OPTIONS = ("dense_3d", "conv_groups", "batch_norm_2d")
WITHOUT = ("dense_prelu", "conv_same_strided", "embedding", "embedding_one_hot", "layer_norm")
ALL = tuple(CASES)
RUNS = {
    "graph-split": (ms.GRAPH_MODE, WITHOUT, Options(split_dim=3)),
    "graph-options": (ms.GRAPH_MODE, WITH_OPTIONS,
                      Options(split_dim=4, fold_bias=True, pi_correction=True, batchnorm_blocks=True)),
    "pynative-split": (ms.PYNATIVE_MODE, ALL, Options(split_dim=3)),
    "pynative-whole": (ms.PYNATIVE_MODE, ALL, Options(split_dim=None)),
    "pynative-fold": (ms.PYNATIVE_MODE, ALL, Options(split_dim=3, fold_bias=True, batchnorm_blocks=True)),
    "pynative-pi": (ms.PYNATIVE_MODE, ("dense", "conv_pad_four", "conv_groups", "embedding"),
                    Options(split_dim=None, pi_correction=True)),
    "pynative-relative": (ms.PYNATIVE_MODE, ("dense", "dense_3d", "conv_pad_four", "conv_groups", "embedding",
                                             "layer_norm", "batch_norm_2d"),
                          Options(split_dim=3, batchnorm_blocks=True, relative_damping=True)),
}


def updates_of_one_step(mode, names, options):
    """One step of lr 1 without momentum: ``{case: {parameter: (expected update, applied update)}}``."""
    ms.set_context(mode=mode)
    cells = {name: CASES[name].create() for name in names}
    batches = {name: CASES[name].batch() for name in names}
    expected = {name: CASES[name].expected(cells[name], *batches[name], options) for name in names}
    network = Branches(list(cells.values()))
    before = {p.name: value(p) for p in network.trainable_params()}
    optimizer = THOR(network, 1.0, DAMPING, 0.0, batch_size=BATCH, split_dim=options.split_dim,
                     fold_bias=options.fold_bias, pi_correction=options.pi_correction,
                     batchnorm_blocks=options.batchnorm_blocks, relative_damping=options.relative_damping)
    make_train_step(network, optimizer)(*[Tensor(array) for batch in batches.values() for array in batch])
    return {name: {key: (update, applied(cells[name], key, before)) for key, update in updates.items()}
            for name, updates in expected.items()}


def applied(cell, attribute, before):
    parameter = cell
    for part in attribute.split("."):
        parameter = getattr(parameter, part)
    return before[parameter.name] - value(parameter)


@pytest.fixture(scope="module")
def runs():
    return {}


@pytest.mark.parametrize("run, name", [
    pytest.param(run, name, marks=[pytest.mark.slow] if mode == ms.GRAPH_MODE else [])
    for run, (mode, names, _) in RUNS.items() for name in names])
def test_update_solves_the_kronecker_system(runs, run, name):
    if run not in runs:
        runs[run] = updates_of_one_step(*RUNS[run])
    for attribute, (expected, got) in runs[run][name].items():
        scale = np.abs(expected).max()
        assert scale > 1e-3, "the case moves nothing"
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-5 * scale, err_msg=attribute)
