"""train.init_from: a new run begins with weights of another program; one that goes on does not read them."""
from __future__ import annotations

import dataclasses
from pathlib import Path

import mindspore as ms
import numpy as np
import pytest
from mindspore import nn
from safetensors.numpy import save_file

from models import train
from models.bert.network import BertForPretraining
from models.config import ConfigError, changed, load_config
from models.dry_run import dry_run
from models.registry import register_network, unregister_network
from models.session import create_session
from models.weights.beginning import begin_with_weights
from tests.helpers import CONFIGS, DIGITS
from tests.helpers.bert_reference import SMALL
from tests.helpers.foreign_networks import HUGGING_FACE, MINDSPORE_BASIC, TORCHVISION, bert_weights, resnet_weights

pytestmark = pytest.mark.usefixtures("pynative")
WORDS = ["--model.base_width=4", "--model.stem=imagenet", "--data.batch_size=400", "--device.mode=pynative"]
TINY = ["--model.name=two", "--data.batch_size=400", "--device.mode=pynative", "--data.augment=false",
        "--optimizer.name=adam", "--optimizer.learning_rate.schedule=constant", "--train.epochs=2"]
STATE = resnet_weights(18, 4, 10, 1, TORCHVISION)


@pytest.fixture(autouse=True)
def two():
    """A convolution of 4 channels and a Dense layer, on images of 8 pixels."""
    register_network("two")(lambda model, data: nn.SequentialCell(
        nn.Conv2d(1, 4, 3, has_bias=True), nn.ReLU(), nn.Flatten(), nn.Dense(256, model.num_classes)))
    yield
    unregister_network("two")


def session_of(*words):
    return create_session(load_config(DIGITS, [*WORDS, *words]))


def begun(*words):
    """What a session says it begins with, and the values it has."""
    session = session_of("--train.init_from=a.safetensors", *words)
    return session.begun_with, {name: p.asnumpy() for name, p in session.network.parameters_and_names()}, session


def refusal(*words):
    with pytest.raises((OSError, ValueError)) as raised:
        session_of("--train.init_from=a.safetensors", *words)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_all_weights_come_from_the_file_and_so_do_copies_of_them():
    save_file(STATE, "a.safetensors")
    lines, values, session = begun("--optimizer.name=lookahead(momentum)", "--train.ema.decay=0.9")
    assert lines == ["102 of 102 parameters begin as in a.safetensors, which has torchvision names"]
    np.testing.assert_array_equal(values["stages.2.0.shortcut.1.moving_mean"],
                                  STATE["layer3.0.downsample.1.running_mean"])
    np.testing.assert_array_equal(values["fc.weight"], STATE["fc.weight"])
    state = {parameter.name: parameter.asnumpy() for parameter in session.step.get_parameters()}
    for copy in ("ema.", "slow."):
        np.testing.assert_array_equal(state[f"{copy}stages.0.1.bn2.gamma"], STATE["layer1.1.bn2.weight"])
    assert state["global_step"].tolist() == [0]


def test_a_head_of_another_width_and_what_is_not_there_keep_their_initial_values():
    save_file({name: array for name, array in STATE.items() if "layer4.1" not in name} |
              {"layer1.2.conv1.weight": STATE["layer1.1.conv1.weight"]}, "a.safetensors")
    lines, values, _ = begun("--model.num_classes=12")
    assert lines == [
        "90 of 102 parameters begin as in a.safetensors, which has torchvision names",
        "not taken from it: fc.weight is 10x32 there, 12x32 here, fc.bias is 10 there, 12 here; it lacks "
        "layer4.1.conv1.weight, layer4.1.bn1.running_mean, layer4.1.bn1.running_var and 7 more; it also has "
        "layer1.2.conv1.weight, which the network has not"]
    initial = {name: p.asnumpy() for name, p in session_of("--model.num_classes=12").network.parameters_and_names()}
    kept = [name for name in values if np.array_equal(values[name], initial[name])]
    assert sorted(kept) == sorted(name for name in values if name.startswith(("fc.", "stages.3.1.")))


def test_weights_of_the_other_geometry_are_told():
    save_file(resnet_weights(18, 4, 10, 1, MINDSPORE_BASIC), "a.safetensors")
    told = ["102 of 102 parameters begin as in a.safetensors, which has mindspore names",
            "these weights belong to model.geometry official; with standard the network computes something else with "
            "them"]
    assert begun()[0] == told
    assert begun("--model.geometry=official")[0] == [told[0].replace("mindspore", "zoo")]


def test_huggingfaces_bert_without_heads_begins_all_but_the_heads():
    state = {name.removeprefix("bert."): array for name, array in bert_weights(SMALL, HUGGING_FACE).items()
             if name.startswith("bert.")}
    save_file(state, "a.safetensors")
    config = changed(load_config(CONFIGS / "bert/bert_small.yaml"), {
        "train.init_from": "a.safetensors", "model.bert": dataclasses.asdict(SMALL)})
    network = BertForPretraining(config.model.bert)
    lines = begin_with_weights(config, network)
    assert lines == [f"{len(state)} of {len(state) + 7} parameters begin as in a.safetensors, which has huggingface "
                     "names", "not taken from it: it lacks cls.predictions.transform.dense.weight, "
                     "cls.predictions.transform.dense.bias, cls.predictions.transform.LayerNorm.weight and 4 more"]
    np.testing.assert_array_equal(network.bert.encoder[1].output_norm.gamma.asnumpy(),
                                  state["encoder.layer.1.output.LayerNorm.weight"])


def test_what_cannot_be_used_is_one_line():
    assert refusal() == "train.init_from=a.safetensors; is not a file; give the path of one with weights"
    save_file({"a": np.zeros(3, np.float32)}, "a.safetensors")
    assert refusal() == ("train.init_from=a.safetensors; has no parameter of resnet18; give a file with weights of "
                         "such a network")
    save_file({**STATE, "conv1.weight": STATE["fc.weight"]}, "a.safetensors")
    assert refusal() == ("train.init_from=a.safetensors; conv1.weight is 10x32 there, 4x1x7x7 here; only the head may "
                         "have another shape; give the model the settings of these weights")


def test_a_dry_run_says_what_a_run_would_begin_with(capsys):
    weights = {"0.weight": (4, 1, 3, 3), "0.bias": (4,), "3.weight": (10, 256), "3.bias": (10,)}
    save_file({name: np.ones(shape, np.float32) for name, shape in weights.items()}, "a.safetensors")
    dry_run(load_config(DIGITS, [*TINY, "--train.init_from=a.safetensors"]))
    told = [line.split(None, 2)[2] for line in capsys.readouterr().out.splitlines() if line.startswith("with weights")]
    assert told == ["4 of 4 parameters begin as in a.safetensors, which has zoo names"]


@pytest.mark.slow
def test_a_run_begins_with_the_weights_of_another_and_goes_on_without_them(capsys):
    """At a rate of 1e-12 its end is their beginning. Going on after 3 of 6 steps is as never having stopped."""
    source = train.train(load_config(DIGITS, [*TINY, "--train.run_dir=first", "--seed=5"]))
    (file,) = Path("first").glob("*/*/checkpoints/step-000006.ckpt")
    still = ["--optimizer.learning_rate.initial=1e-12", "--train.run_dir=second"]
    capsys.readouterr()
    results = train.train(load_config(DIGITS, [*TINY, *still, f"--train.init_from={file}"]))
    line = f"4 of 4 parameters begin as in {file}, which has zoo names"
    assert line in capsys.readouterr().out.splitlines()
    assert results["loss"] == pytest.approx(source["loss"], rel=1e-5)
    (end,) = Path("second").glob("*/*/checkpoints/step-000006.ckpt")
    assert ms.load_checkpoint(str(end))["global_step"].asnumpy().tolist() == [6]

    config = load_config(DIGITS, [*TINY, f"--train.init_from={file}"])
    whole = train.train(config)
    (run,) = Path("runs").glob("*/*")
    for gone in (run / "results.json", run / "checkpoints" / "step-000006.ckpt", run / ".lock", file):
        gone.unlink()
    capsys.readouterr()
    again = train.train(config)
    told = capsys.readouterr().out
    assert "going on after batch 3" in told and "parameters begin" not in told
    assert {**again, "seconds": 0} == {**whole, "seconds": 0}


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_with_the_file():
    save_file(STATE, "a.safetensors")
    words = [*WORDS, "--train.init_from=a.safetensors"]
    folder = train.open_run_folder(load_config(DIGITS, words))
    (folder.checkpoints / "part.ckpt").write_bytes(b"half a checkpoint")
    folder.lock.close()
    assert len(session_of("--train.init_from=a.safetensors").begun_with) == 1


def test_a_checkpoint_to_begin_with_and_weights_exclude_each_other(tmp_path):
    (tmp_path / "a.ckpt").write_bytes(b"")
    config = load_config(DIGITS, [*WORDS, "--train.init_from=a.safetensors", "--train.resume=a.ckpt"])
    with pytest.raises(ConfigError, match="train.init_from='a.safetensors'; must be left out with a checkpoint in "
                                          "train.resume; a run begins with the weights of one of them"):
        create_session(config)
