"""Pretraining through the entries every network has: tied weights, evaluation, overfitting, resuming."""
from __future__ import annotations

import dataclasses
import functools
import math
import re

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn

from models import callbacks, evaluate, train
from models.bert.loss import BertPretrainingLoss
from models.bert.network import BertForPretraining
from models.bert.scores import PretrainingScores, pretraining_metrics
from models.config import load_config
from models.session import create_session
from tests.helpers import CONFIGS
from tests.helpers.bert_data import LENGTH, VOCABULARY, make_data
from tests.helpers.bert_reference import SMALL, Reference, batch, create, cross_entropy, tensors
from tests.helpers.interrupted import left_after
from thor import THOR
from thor.train import make_train_step

TABLE = "bert.embeddings.word.embedding_table"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("bert"))


def words(data, run_dir, *more, config="bert_small.yaml"):
    """Command line words of a tiny run."""
    settings = {"data.path": data, "data.batch_size": 16, "data.eval_batch_size": 32, "train.run_dir": run_dir,
                "model.bert.vocab_size": VOCABULARY, "model.bert.max_positions": LENGTH, "model.bert.hidden_size": 16,
                "model.bert.layers": 1, "model.bert.heads": 2, "model.bert.intermediate_size": 32,
                "optimizer.learning_rate.warmup_epochs": 0, "train.epochs": 2, "train.sink_size": 5}
    given = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    return ["--config", str(CONFIGS / "bert" / config), *given, *more]


@pytest.mark.usefixtures("pynative")
def test_tied_weights_stay_tied_in_thors_steps():
    config = dataclasses.replace(SMALL, layers=1)
    network = create(config)
    optimizer = THOR(network, 0.01, 0.03, 0.9, batch_size=3, frequency=2)
    step = make_train_step(BertPretrainingLoss(network), optimizer)
    table, before = network.bert.embeddings.word.embedding_table, None
    for _ in range(2):
        before = table.asnumpy().copy()
        step(*tensors(batch()))
        assert np.abs(table.asnumpy() - before).max() > 0
        assert [p.name for p in network.trainable_params()].count(TABLE) == 1
    network.set_train(False)
    expected = Reference(network, config).logits(batch())  # reads one table for both uses
    for found, value in zip(network(*tensors(batch())[:4]), expected):
        np.testing.assert_allclose(found.asnumpy(), value, rtol=2e-4, atol=2e-4)


@pytest.mark.slow
def test_one_batch_is_learned_by_heart():
    ms.set_seed(1)
    network = BertForPretraining(dataclasses.replace(SMALL, layers=1))
    optimizer = THOR(network, 0.05, 0.03, 0.9, batch_size=3, frequency=1, enable_clip_grad=True)
    distinct = {**batch(), "masked_positions": np.tile(np.int32([1, 3, 4, 6]), (3, 1))}
    step, b = make_train_step(BertPretrainingLoss(network), optimizer), tensors(distinct)
    losses = [float(step(*b)) for _ in range(40)]
    assert losses[0] == pytest.approx(math.log(SMALL.vocab_size) + math.log(2), abs=0.3)
    assert losses[-1] < 0.05
    scores = PretrainingScores(network).set_train(False)(*b).asnumpy()
    assert scores[1] == scores[2] == 7 and scores[4] == scores[5] == 3


@pytest.mark.usefixtures("pynative")
def test_metrics_weigh_every_masked_word_alike():
    network, b = create(SMALL).set_train(False), batch()
    metrics = pretraining_metrics()
    for rows in (slice(0, 2), slice(2, 3)):
        scores = PretrainingScores(network)(*(ms.Tensor(values[rows]) for values in b.values()))
        for metric in metrics.values():
            metric.update(scores)
    found = {name: metric.eval() for name, metric in metrics.items()}
    logits, sentences = Reference(network, SMALL).logits(b)
    weights, labels = b["masked_weights"].ravel(), b["masked_labels"].ravel()
    word_loss = (cross_entropy(logits, labels) * weights).sum() / 7
    sentence_loss = cross_entropy(sentences, b["next_sentence_labels"]).mean()
    assert found["mlm_accuracy"] == ((logits.argmax(1) == labels) * weights).sum() / 7
    assert found["nsp_accuracy"] == (sentences.argmax(1) == b["next_sentence_labels"]).mean()
    np.testing.assert_allclose([found["mlm_loss"], found["mlm_perplexity"], found["loss"]],
                               [word_loss, math.exp(word_loss), word_loss + sentence_loss], rtol=1e-4)


def test_metrics_of_nothing_are_finite():
    assert {name: metric.eval() for name, metric in pretraining_metrics().items()} == {
        "loss": 0, "mlm_loss": 0, "mlm_perplexity": 1, "mlm_accuracy": 0, "nsp_accuracy": 0}


@pytest.mark.slow
def test_a_run_that_ended_goes_on_bit_for_bit_and_is_evaluated(data, tmp_path, capsys, monkeypatch):
    """Within an accumulation, as by SIGKILL; tests/models/test_resume.py has THOR, compiled, and a real one."""
    settings = ["--device.mode", "pynative", "--model.bert.dropout", "0.1", "--loss_scale.policy", "dynamic",
                "--train.accumulate_steps", "2"]
    every = ["--train.checkpoint_every_steps", "2", *settings]
    lamb = functools.partial(words, data, config="bert_small_lamb.yaml")
    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "build_callbacks", left_after(7, tmp_path / "left"))
        assert train.main(lamb(tmp_path / "whole", *every)) == 0
    whole = capsys.readouterr().out
    place = next((tmp_path / "whole").glob("*/*")).relative_to(tmp_path / "whole")
    folders = [tmp_path / name / place for name in ("whole", "cut")]
    folders[1].parent.mkdir(parents=True)
    (tmp_path / "left").rename(folders[1])
    assert train.main(lamb(tmp_path / "cut", *every)) == 0
    assert "going on after batch 5 " in capsys.readouterr().out
    final = [ms.load_checkpoint(str(folder / "checkpoints" / "step-000010.ckpt")) for folder in folders]
    differing = [name for name, value in final[0].items() if isinstance(value, ms.Parameter)
                 and not np.array_equal(value.asnumpy(), final[1][name].asnumpy())]
    assert differing == [] and TABLE in final[0]
    rows = [re.sub(r",[^,]*$", "", (folder / "metrics.csv").read_text(), flags=re.MULTILINE) for folder in folders]
    assert rows[0].splitlines()[0] == rows[1].splitlines()[0]
    assert rows[0].splitlines()[0].endswith("eval_accuracy,eval_mlm_loss,eval_nsp_accuracy")
    # training to the bit; a sum over a batch is rounded differently by another number of threads
    values = [[[float(field or "nan") for field in row.split(",")] for row in text.splitlines()[1:]] for text in rows]
    np.testing.assert_allclose(values[1], values[0], rtol=1e-6)
    checkpoint = folders[0] / "checkpoints" / "step-000010.ckpt"
    assert evaluate.main([*lamb(tmp_path, *settings), "--checkpoint", str(checkpoint)]) == 0
    shown = re.search(r"'mlm_accuracy': ([0-9.e-]+), 'nsp_accuracy': ([0-9.e-]+), 'mlm_loss': ([0-9.]+)",
                      capsys.readouterr().out)
    last = rows[0].splitlines()[-1].split(",")[-3:]
    found = [float(shown[i]) for i in (1, 3, 2)]
    np.testing.assert_allclose(found, [float(x) for x in last], rtol=1e-5)
    ends = r"masked words +[0-9.]+ % right\n +next sentences +[0-9.]+ % right\n +masked-LM loss"
    assert re.search(ends, whole)


@pytest.mark.parametrize("more, expected", [
    (["--model.name", "resnet18"], ": data.name='text'; must be one of digits, mnist, "),
    (["--data.name", "digits"], "error: --data.name: data.name='digits'; must be text for bert"),
    (["--model.bert.heads", "3"], "hidden_size=16; must be a multiple of heads=3"),
    (["--data.path", "/no"], "error: data.path=/no; no such folder; make the data with python -m models.bert.prepare"),
])
def test_what_does_not_fit_is_one_line(data, tmp_path, capsys, more, expected):
    assert train.main(words(data, tmp_path / "runs", *more)) == 1
    err = capsys.readouterr().err
    assert expected in err and err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.usefixtures("pynative")
def test_mixed_precision_keeps_weights_and_loss_in_float32(data, tmp_path):
    config = load_config(words(data, tmp_path)[1], words(data, tmp_path, "--train.amp_level", "O2", "--device.mode",
                                                         "pynative")[2:])
    session = create_session(config)
    loss = session.step(*next(session.train_set.create_tuple_iterator(num_epochs=1)))
    assert loss.dtype == ms.float32
    assert float(loss) == pytest.approx(math.log(VOCABULARY) + math.log(2), abs=0.2)
    assert {p.dtype for p in session.network.trainable_params()} == {ms.float32}
    norms = [cell for _, cell in session.network.cells_and_names() if isinstance(cell, nn.LayerNorm)]
    assert {norm.gamma.dtype for norm in norms} == {ms.float32}
