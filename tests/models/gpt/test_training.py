"""GPT through the entries every network has: learning, evaluation, resuming, sampling."""
from __future__ import annotations

import csv
import math
from collections import Counter

import mindspore as ms
import numpy as np
import pytest
from mindspore import Tensor

from models import callbacks, evaluate, train
from models.config import load_config
from models.gpt import sample
from models.gpt.loss import NextTokenLoss
from tests.helpers import CONFIGS
from tests.helpers.bert_data import read_records
from tests.helpers.gpt_data import LENGTH, VOCABULARY, make_data
from tests.helpers.gpt_reference import SMALL, GptReference, create, tokens
from tests.helpers.interrupted import left_after
from thor import THOR
from thor.train import make_train_step

RATE = ("--optimizer.learning_rate.initial", "0.03")  # of a network an eighth as wide


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("gpt"))


def words(data, run_dir, *more, config="gpt_small_cpu.yaml"):
    """Command line words of a tiny run."""
    settings = {"data.path": data, "data.batch_size": 16, "data.eval_batch_size": 32, "train.run_dir": run_dir,
                "model.gpt.vocab_size": VOCABULARY, "model.gpt.max_positions": LENGTH, "model.gpt.hidden_size": 16,
                "model.gpt.layers": 1, "model.gpt.heads": 2, "model.gpt.intermediate_size": 32,
                "optimizer.learning_rate.warmup_epochs": 0, "train.epochs": 2, "train.sink_size": 5}
    given = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return ["--config", str(CONFIGS / "gpt" / config), *given, *more]


def unigram_entropy(data):
    """Nats a token of the held-out records, told by the shares of their own tokens."""
    records = [r["tokens"][1:] for file in sorted(data.glob("held_out/*.mindrecord")) for r in read_records(file)]
    counts = np.array(list(Counter(np.concatenate(records).tolist()).values()), np.float64)
    shares = counts / counts.sum()
    return -(shares * np.log(shares)).sum()


@pytest.mark.usefixtures("pynative")
def test_tied_weights_stay_tied_in_thors_steps():
    network = create()
    optimizer = THOR(network, 0.01, 0.03, 0.9, batch_size=3, frequency=2)
    step = make_train_step(NextTokenLoss(network), optimizer)
    for _ in range(2):
        before = network.word.embedding_table.asnumpy().copy()
        step(Tensor(tokens()))
        assert np.abs(network.word.embedding_table.asnumpy() - before).max() > 0
    expected = GptReference(network, SMALL).logits(tokens()[:, :-1])  # reads one table for both uses
    np.testing.assert_allclose(network.set_train(False)(Tensor(tokens()[:, :-1])).asnumpy(), expected, atol=2e-4)


@pytest.mark.slow
def test_a_run_learns_what_follows_what(data, tmp_path, capsys):
    """It ends below the entropy of its tokens one by one, and sampling from it is a function of the seed."""
    assert train.main(words(data, tmp_path, "--train.epochs", "3", "--train.sink_size", "25", *RATE)) == 0
    out = capsys.readouterr().out
    assert "next tokens" in out and "held-out loss" in out
    run = next(tmp_path.glob("*/*"))
    rows = list(csv.DictReader((run / "metrics.csv").open()))
    last = {name: float(value) for name, value in rows[-1].items() if value}
    assert last["eval_loss"] < unigram_entropy(data) - 0.2
    assert last["eval_perplexity"] == pytest.approx(math.exp(last["eval_loss"]), rel=1e-5)
    assert evaluate.main([*words(data, tmp_path), "--checkpoint", str(next(run.glob("checkpoints/*.ckpt")))]) == 0
    shown = capsys.readouterr().out
    assert f"'next_token_accuracy': {last['eval_accuracy']:.4f}"[:-1] in shown

    def sampled(*more):
        assert sample.main(["--run", str(run), "--prompt", "abcd", "--tokens", "20", *more]) == 0
        return capsys.readouterr().out
    one = sampled("--seed", "3")
    assert one.startswith("abcd") and one == sampled("--seed", "3") != sampled("--seed", "4")
    assert sampled("--temperature", "0") == sampled("--top_k", "1", "--seed", "9") != one


@pytest.mark.slow
def test_a_run_that_ended_goes_on_bit_for_bit(data, tmp_path, capsys, monkeypatch):
    """tests/models/test_resume.py has THOR, compiled."""
    settings = ["--device.mode", "pynative", "--model.gpt.dropout", "0.1", "--train.checkpoint_every_steps", "2"]
    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "build_callbacks", left_after(7, tmp_path / "left"))
        assert train.main(words(data, tmp_path / "whole", *settings, config="gpt_small_adamw_cpu.yaml")) == 0
    place = next((tmp_path / "whole").glob("*/*")).relative_to(tmp_path / "whole")
    folders = [tmp_path / name / place for name in ("whole", "cut")]
    folders[1].parent.mkdir(parents=True)
    (tmp_path / "left").rename(folders[1])
    assert train.main(words(data, tmp_path / "cut", *settings, config="gpt_small_adamw_cpu.yaml")) == 0
    assert "going on after batch 6 " in capsys.readouterr().out
    final = [ms.load_checkpoint(str(folder / "checkpoints" / "step-000010.ckpt")) for folder in folders]
    differing = [name for name, value in final[0].items() if isinstance(value, ms.Parameter)
                 and not np.array_equal(value.asnumpy(), final[1][name].asnumpy())]
    assert differing == [] and "word.embedding_table" in final[0]


@pytest.mark.parametrize("more, expected", [
    (["--model.name", "resnet18"], ": data.name='text'; must be one of digits, mnist, "),
    (["--data.name", "digits"], "error: --data.name: data.name='digits'; must be text for gpt"),
    (["--model.gpt.heads", "3"], "hidden_size=16; must be a multiple of heads=3"),
    (["--model.bert.layers", "3"], "model.bert.layers=3; must be left out with model.name=gpt; only networks that "),
    (["--data.path", "/no"], "error: data.path=/no; no such folder; make the data with python -m models.gpt.prepare"),
])
def test_what_does_not_fit_is_one_line(data, tmp_path, capsys, more, expected):
    assert train.main(words(data, tmp_path / "runs", *more)) == 1
    err = capsys.readouterr().err
    assert expected in err and err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_the_small_adamw_differs_in_its_optimizer_only():
    thor, adamw = (load_config(CONFIGS / "gpt" / name) for name in ("gpt_small_cpu.yaml", "gpt_small_adamw_cpu.yaml"))
    assert (thor.optimizer.name, adamw.optimizer.name) == ("thor", "adamw")
    assert (thor.model, thor.data, thor.train, thor.seed) == (adamw.model, adamw.data, adamw.train, adamw.seed)
