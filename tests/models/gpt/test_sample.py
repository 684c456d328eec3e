"""Sampling: shares, the largest few, windows, the end of a document, and what cannot be used."""
from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from mindspore import Tensor

from models.config import changed, dump_config, load_config
from models.gpt.sample import choose, main, next_logits, sampled
from tests.helpers import CONFIGS
from tests.helpers.gpt_data import make_data
from tests.helpers.gpt_reference import SMALL, create


@pytest.mark.parametrize("temperature, top_k", [(1.0, 0), (0.5, 0), (2.0, 3), (1.0, 9)])
def test_tokens_come_as_often_as_the_softmax_says(temperature, top_k):
    logits = np.float32([0.3, 2.0, -1.0, 1.0, 0.5])
    powers = np.exp(logits.astype(np.float64)) ** (1 / temperature)
    powers[np.argsort(powers)[:5 - (top_k or 5)]] = 0 if top_k < 5 else powers[np.argsort(powers)[:5 - (top_k or 5)]]
    shares, chance = powers / powers.sum(), np.random.default_rng(2)
    draws = 4000
    found = np.bincount([choose(logits, temperature, top_k, chance) for _ in range(draws)], minlength=5) / draws
    assert (found[shares == 0] == 0).all()
    np.testing.assert_allclose(found, shares, atol=4.5 * 0.5 / draws ** 0.5)  # deviations of a share of a half


def test_temperature_zero_is_the_most_likely_token():
    for temperature in (0.0, 5e-324):
        assert choose(np.float32([0, 3, 2]), temperature, 0, np.random.default_rng(0)) == 1


def test_a_document_ends_at_its_end():
    following = {1: 2, 2: 3, 3: 0}

    def logits(tokens):
        return np.where(np.arange(4) == following[tokens[-1]], 9.0, 0.0)
    assert list(sampled(logits, [1], 0, 0.0, 0, np.random.default_rng(0))) == [2, 3]


@pytest.mark.usefixtures("pynative")
def test_logits_are_those_of_the_last_position_of_the_window():
    network = create(dataclasses.replace(SMALL, layers=1)).set_train(False)
    tokens = np.random.default_rng(1).integers(0, SMALL.vocab_size, 20).tolist()
    for length in (1, 5, SMALL.max_positions, 20):
        seen = tokens[:length]
        window = np.int32([seen[-SMALL.max_positions:]])
        expected = network(Tensor(window)).asnumpy()[-1, :40]
        np.testing.assert_allclose(next_logits(network, 40)(seen), expected, rtol=0, atol=1e-5)
    chance = [np.random.default_rng(seed) for seed in (1, 1, 2)]
    texts = [list(itertools.islice(sampled(next_logits(network, 50), [4], 60, 1.0, 0, c), 5)) for c in chance]
    assert texts[0] == texts[1] != texts[2] and len(texts[2]) == 5


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    config = load_config(CONFIGS / "gpt" / "gpt_small_cpu.yaml", ["--data.path", str(tmp_path / "data")])
    (folder / "config.yaml").write_text(dump_config(config))
    return folder


@pytest.mark.parametrize("more, expected", [
    (["--temperature", "-1"], "temperature=-1.0; must be a number >= 0; use 1 for the model's own shares"),
    (["--temperature", "nan"], "temperature=nan; must be a number >= 0; use 1 for the model's own shares"),
    (["--top_k", "-1"], "top_k=-1; must be an int >= 0; use 0 for all tokens"),
    (["--seed", "-1"], "seed=-1; must be an int >= 0"),
    ([], "vocab=DATA/tokenizer.json; must be a tokenizer.json; cannot be read as one"),
    (["--run", "/no"], "run=/no; has no config.yaml; give the folder of a run of models.train"),
])
def test_what_cannot_be_sampled_is_one_line(run, capsys, more, expected):
    assert main(["--run", str(run), *more]) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"error: {expected}\n".replace("DATA", str(run.parent / "data")))


def test_a_run_of_another_network_is_one_line(run, capsys):
    (run / "config.yaml").write_text(dump_config(load_config(CONFIGS / "lenet" / "lenet5_fashion_mnist.yaml")))
    assert main(["--run", str(run)]) == 1
    assert capsys.readouterr().err == (f"error: run={str(run)!r}; must be a run of a network that tells the next "
                                       "token; that of lenet5 does not\n")


def test_a_vocabulary_of_another_network_and_a_run_without_checkpoints_are_one_line(run, capsys):
    vocabulary = make_data(run.parent / "made") / "tokenizer.json"
    assert main(["--run", str(run), "--vocab", str(vocabulary)]) == 1
    assert capsys.readouterr().err == f"error: run={run}; has no checkpoints; give --checkpoint\n"
    config = changed(load_config(run / "config.yaml"), {"model.gpt.vocab_size": 299})
    (run / "config.yaml").write_text(dump_config(config))
    assert main(["--run", str(run), "--vocab", str(vocabulary)]) == 1
    assert capsys.readouterr().err == (f"error: vocab={str(vocabulary)!r}; must be the network's own vocabulary; it "
                                       "has 300 tokens, the network 299\n")
