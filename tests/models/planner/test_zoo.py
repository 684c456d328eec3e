"""Jobs of real networks: rows, operations and blocks, counted without a dataset."""
from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from models.config import load_config
from models.planner.measure import make_batch
from models.planner.trace import trace
from models.planner.work import LayerWork
from models.planner.zoo import JobError, build_network, job_of, on_cpu
from models.registry import dataset, dataset_names
from thor.distribution import assign_owners, default_split, groups_of, inverse_cost

LENET = ["--model.name", "lenet5", "--data.name", "mnist", "--data.batch_size", "7", "--train.epochs", "3"]
BERT = ["--model.name", "bert", "--data.name", "text", "--model.bert.vocab_size", "100", "--data.batch_size", "2"]
SMALL = ["--model.bert.hidden_size", "32", "--model.bert.heads", "2", "--model.bert.intermediate_size", "64",
         "--model.bert.layers", "1"]
LARGE = [*BERT, "--model.bert.hidden_size", "1024", "--model.bert.heads", "16", "--model.bert.intermediate_size",
         "4096", "--model.bert.max_positions", "16"]
GPT = ["--model.name", "gpt", "--data.name", "text", "--model.gpt.vocab_size", "100", "--data.batch_size", "2",
       "--model.gpt.hidden_size", "32", "--model.gpt.heads", "2", "--model.gpt.intermediate_size", "64",
       "--model.gpt.layers", "1", "--model.gpt.max_positions", "8"]


def job_with(words: list[str], **options):
    return job_of(on_cpu(load_config(None, words)), "test", **options)


def test_lenet_by_hand():
    job = job_with([*LENET, "--optimizer.frequency", "50", "--parallel.all_reduce_fusion_config", "[3, 9]"])
    rows = [7 * 28 * 28, 7 * 10 * 10, 7, 7, 7]
    shapes = [(6, 25), (16, 150), (120, 400), (84, 120), (10, 84)]
    kernels = [25, 25, 1, 1, 1]
    assert [layer.work for layer in job.layers] == [
        LayerWork(1, *shape, n, kernel) for shape, n, kernel in zip(shapes, rows, kernels)]
    assert [layer.forward_flop for layer in job.layers] == [2.0 * n * r * c for n, (r, c) in zip(rows, shapes)]
    assert job.other_flop == 0
    assert [layer.factor_shapes[:2] for layer in job.layers[:2]] == [((1, 25, 25), (1, 6, 6)),
                                                                     ((2, 128, 128), (1, 16, 16))]
    assert job.gradient_numbers == job.weights == 61706
    assert job.parameters == tuple((n, i) for i, (r, c) in enumerate(shapes) for n in (r * c, r))
    assert (job.batch_size, job.frequency, job.epochs, job.gradient_cuts) == (7, 50, 3, (3, 9))
    assert job.steps_per_epoch(2) == 60000 // 2 // 7
    dense = 4 * sum(r * r + c * c for r, c in shapes)
    assert job.dense_bytes == dense


def test_sizes_of_all_image_datasets_are_known():
    assert {name: dataset(name).training_images for name in dataset_names()} == {
        "digits": 1437, "mnist": 60000, "fashion_mnist": 60000, "cifar10": 50000, "imagenet": 1281167}


def test_one_sample_tells_what_a_batch_does(pynative):
    config = load_config(None, ["--model.base_width", "4", "--data.batch_size", "3"])
    network = build_network(config)
    batch = make_batch(config, 3)
    whole = trace(network, lambda: network(batch[0]))
    job = job_of(config)
    assert sorted(layer.work.samples for layer in job.layers) == sorted(whole.rows.values())
    assert job.forward_flop == sum(whole.flop.values())
    assert job.activations == whole.activations


def test_subsampled_rows_and_other_targets_do_not_matter():
    one = job_with([*LENET, "--device.target", "Ascend"])
    quarter = job_with([*LENET, "--curvature.subsample", "4"])
    assert [layer.work.samples // 4 for layer in one.layers] == [layer.work.samples for layer in quarter.layers]


def test_text_counts_tokens_and_masked_words():
    job = job_with([*BERT, *SMALL, "--train.sink", "true", "--train.sink_size", "40"], sequence_length=20)
    samples = Counter(layer.work.samples for layer in job.layers)
    assert job.layers[0].work.diagonal_rows and job.layers[0].work.samples == 2 * 20 + 2 * 3  # looked up and decoded
    assert samples[2 * 3] == 1 and samples[2] == 2  # the transform of masked words; pooler and next sentence
    assert job.steps_per_epoch(8) == 40


@pytest.mark.parametrize("words, options, message", [
    (["--optimizer.name", "momentum"], {}, "optimizer.name='momentum'; must be thor, thor_robust, kfac or spngd; set"),
    ([], {"sequence_length": 5}, "--sequence-length=5; must be left out for resnet18"),
    (BERT, {"sequence_length": 513}, "--sequence-length=513; must be at most 512, the positions of the network"),
])
def test_what_cannot_be_planned_is_refused(words, options, message):
    with pytest.raises(JobError, match=message):
        job_with(words, **options)


@pytest.fixture(scope="module")
def resnet():
    """ResNet-50 for ImageNet."""
    return job_with(["--model.name", "resnet50", "--data.name", "imagenet", "--data.image_size", "64"])


@pytest.fixture(scope="module")
def block_sizes(resnet):
    """Blocks of ResNet-50, and of BERT-large: two encoder layers, and 22 times what the second added."""
    one, two = (Counter(job_with([*LARGE, "--model.bert.layers", str(n)]).block_sizes) for n in (1, 2))
    encoder = two - one
    assert encoder == {128: 4 * 16 + 2 * 40}
    large = two + Counter({size: 22 * count for size, count in encoder.items()})
    return {"resnet50": resnet.block_sizes, "bert_large": sorted(large.elements())}


@pytest.mark.slow
def test_blocks_of_the_published_networks(block_sizes):
    assert Counter(block_sizes["resnet50"]) == {64: 12, 128: 641}
    assert Counter(block_sizes["bert_large"]) == {2: 1, 128: 3520}


@pytest.mark.parametrize("ranks", [1, 2, 8, 64, 256])
@pytest.mark.parametrize("network", ["resnet50", "bert_large"])
def test_owners_balance_real_networks_within_ten_percent_of_the_optimum(block_sizes, network, ranks):
    """No assignment is better than the mean, nor than the dearest blocks dealt out evenly."""
    costs = [inverse_cost(size) for size in block_sizes[network]]
    owners = assign_owners(costs, ranks)
    assert len(owners) == len(costs) and set(owners) <= set(range(ranks))
    dearest = -(-costs.count(max(costs)) // ranks) * max(costs)
    loads = np.bincount(owners, weights=costs, minlength=ranks)
    assert loads.max() <= 1.1 * max(sum(costs) / ranks, dearest)
    assert owners == assign_owners(costs, ranks)


@pytest.mark.parametrize("split", [(26, 53), (53,), None])
def test_published_cuts_of_resnet50_cover_its_layers_in_order(resnet, split):
    assert len(resnet.layers) == 54
    sizes = [layer.packed_bytes for layer in resnet.layers]
    groups = groups_of(split or default_split(sizes), len(sizes))
    assert [layer for group in groups for layer in group] == list(range(54))
    if split is None:
        assert all(sum(sizes[i] for i in group) <= 32 * 2 ** 20 for group in groups)


def test_another_split_dim_keeps_the_operations_of_the_network():
    whole, blocks = (job_with([*LENET, "--optimizer.split_dim", dim]) for dim in ("null", "16"))
    assert whole.forward_flop == blocks.forward_flop
    assert max(whole.block_sizes) == 400 and max(blocks.block_sizes) == 16


def test_gpt_by_hand():
    """All 2 x 6 tokens go through every product; the decoder's table is the embedding's."""
    job = job_with(GPT, sequence_length=6)
    shapes = [(96, 32), (32, 32), (64, 32), (32, 64)]
    works = [layer.work for layer in job.layers if layer.work]
    assert [work for work in works if not work.diagonal_rows] == [LayerWork(1, *shape, 12) for shape in shapes]
    assert [(work.rows, work.columns) for work in works if work.diagonal_rows] == [(100, 32), (8, 32)]
    assert job.forward_flop == sum(2.0 * 12 * r * c for r, c in [*shapes, (100, 32)])
    assert job.weights == 100 * 32 + 8 * 32 + sum(r * c + r for r, c in shapes) + 3 * 64 + 4  # calls of dropout
    with pytest.raises(JobError, match="at most 8, the positions of the network; raise --model.gpt.max_positions"):
        job_with(GPT, sequence_length=9)
