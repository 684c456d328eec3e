"""Flat files of MindSpore's own programs, written here from the published values, against the configurations here."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from models import translate
from models.config import ConfigError, config_tree, load_config
from models.config.upstream import translated
from models.config.yaml_nodes import node_of
from tests.helpers import CONFIGS, ROOT
from tests.helpers.upstream_files import BERT, MOMENTUM, RESNET50, RESNET50_GPU, write


def flattened(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def differences(path, shipped):
    """Setting: (value translated, value of the configuration here), where they differ."""
    ours, theirs = (dict(flattened(config_tree(load_config(file)))) for file in (CONFIGS / shipped, path))
    return {name: (theirs[name], ours[name]) for name in ours if theirs[name] != ours[name]}


def settings(path, *words):
    return dict(flattened(config_tree(load_config(path, words))))


def refusal(path, *words):
    with pytest.raises(ConfigError) as raised:
        load_config(path, words)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_resnet50_of_ascend_is_the_configuration_here(tmp_path):
    assert differences(write(tmp_path, RESNET50), "resnet/resnet50_imagenet_ascend_8p.yaml") == {}


def test_resnet50_of_gpu_keeps_its_own_constants(tmp_path, capsys):
    """The configuration here has those of Ascend: factors are the same on every device. What it was told says so."""
    path = write(tmp_path, RESNET50_GPU)
    rate, damping = "optimizer.learning_rate", "optimizer.damping"
    assert differences(path, "resnet/resnet50_imagenet_gpu_8p.yaml") == {
        f"{rate}.initial": (0.05672, 0.05803), f"{rate}.decay": (4.9687, 4.0839), f"{rate}.end_epoch": (50, 53),
        f"{damping}.initial": (0.02345, 0.03), f"{damping}.decay": (0.5467, 0.50036), "train.epochs": (40, 45)}
    assert f"{path}: rates and damping published for GPU belong to other factors than those here; see " in (
        capsys.readouterr().err)


# Those programs save by steps and keep five; how many held-out records are read at once they do not say.
SAVES = {"train.checkpoint_every_epochs": (0, 1), "train.checkpoint_keep": (5, 3)}


@pytest.mark.parametrize("network, batch", [("base", 64), ("nezha", 96), ("large", 12)])
def test_bert_is_the_configuration_here(network, batch, tmp_path):
    path = write(tmp_path, BERT, bert_network=network)
    assert differences(path, f"bert/bert_{network}_ascend_8p.yaml") == {**SAVES, "data.eval_batch_size": (batch, 32)}


@pytest.mark.parametrize("network", ["base", "large"])
def test_bert_of_gpu_has_its_precision(network, tmp_path):
    path = write(tmp_path, BERT, bert_network=network, device_target="GPU")
    assert set(differences(path, f"bert/bert_{network}_gpu_8p.yaml")) == {*SAVES, "data.eval_batch_size"}


def test_the_newer_bert_file_says_other_things(tmp_path):
    """Weight decay 1e-5, 20 pairs, epochs of 100 steps: 2500 steps are 25 of them, and rates end after 300."""
    path = write(tmp_path, BERT, train_steps=2500, data_sink_steps=100, large_batch_size=20,
                 Thor={**BERT["Thor"], "weight_decay": 1e-5})
    assert differences(path, "bert/bert_large_ascend_8p.yaml") == {
        **SAVES, "data.eval_batch_size": (20, 32), "data.batch_size": (20, 12), "optimizer.weight_decay": (1e-5, 0.0),
        "train.sink_size": (100, 1000), "train.epochs": (25, 3), "optimizer.learning_rate.end_epoch": (300, 30),
        "optimizer.damping.end_epoch": (300, 30)}


def test_lamb_with_its_dynamic_scale(tmp_path):
    """Those programs let the rate end with training, as the configuration here."""
    path = write(tmp_path, BERT, optimizer="Lamb", enable_lossscale="true", train_steps=100000, large_batch_size=24)
    assert differences(path, "bert/bert_large_lamb_ascend_8p.yaml") == {**SAVES, "data.eval_batch_size": (24, 32)}


def test_accumulated_batches_count_as_one_step(tmp_path):
    found = settings(write(tmp_path, BERT, accumulation_steps=4))
    assert (found["train.accumulate_steps"], found["train.sink_size"], found["train.epochs"]) == (4, 4000, 3)
    assert found["optimizer.learning_rate.end_epoch"] == 30


@pytest.mark.parametrize("mode, power, final", [("linear", 1.0, 0.01), ("poly", 2.0, 0.0)])
def test_momentum(mode, power, final, tmp_path):
    found = settings(write(tmp_path, MOMENTUM, lr_decay_mode=mode))
    rate = {name: found[f"optimizer.learning_rate.{name}"] for name in ("schedule", "initial", "final", "power",
                                                                        "warmup_epochs", "end_epoch")}
    assert rate == {"schedule": "polynomial", "initial": 0.8, "final": final, "power": power, "warmup_epochs": 2,
                    "end_epoch": None}
    assert (found["optimizer.name"], found["optimizer.decay_filter"]) == ("momentum", "no_bias_norm")
    assert (found["loss_scale.value"], found["train.epochs"]) == (1024, 90)


@pytest.mark.parametrize("changes, expected", [
    ({"optimizer": "LARS", "lars_epsilon": 1e-6}, {"optimizer.name": "lars", "optimizer.lars_coefficient": 0.001,
                                                   "optimizer.epsilon": 1e-6}),
    ({"device_target": "CPU", "device_id": 3}, {"train.sink": False, "train.amp_level": "O0", "device.target": "CPU"}),
    ({"run_distribute": False}, {"parallel.device_num": 1}),
    ({"use_label_smooth": False}, {"loss.label_smoothing": 0.0}),
    ({"save_checkpoint": False}, {"train.checkpoint_every_epochs": 0}),
    ({"resume_ckpt": "a.ckpt", "seed": 3}, {"train.resume": "a.ckpt", "seed": 3}),
    ({"pre_trained": "a.ckpt"}, {"train.init_from": "a.ckpt", "model.geometry": "official", "train.resume": "auto"}),
    ({"pre_trained": ""}, {"train.init_from": None, "model.geometry": "standard"}),
    ({"data_path": "/data/a: b #c", "eval_dataset_path": "/val", "mode_name": "PYNATIVE"},
     {"data.path": "/data/a: b #c", "data.eval_path": "/val", "device.mode": "pynative"}),
])
def test_single_keys(changes, expected, tmp_path):
    found = settings(write(tmp_path, MOMENTUM, **changes))
    assert {name: found[name] for name in expected} == expected


def test_weights_of_bert_alone(tmp_path):
    assert settings(write(tmp_path, BERT, load_checkpoint_path="a.ckpt"))["train.init_from"] == "a.ckpt"
    assert settings(write(tmp_path, BERT))["train.init_from"] is None


def test_a_given_split_wins_over_the_programs_own(tmp_path):
    assert settings(write(tmp_path, RESNET50, split_indices=[9, 53]))["optimizer.split_indices"] == [9, 53]
    assert settings(write(tmp_path, RESNET50, net_name="resnet18"))["optimizer.split_indices"] is None


def test_files_extend_it_and_the_command_line_wins(tmp_path):
    write(tmp_path, RESNET50)
    top = tmp_path / "top.yaml"
    top.write_text("extends: flat.yaml\noptimizer: {name: momentum}\ntrain: {epochs: 7}\n")
    found = settings(top, "--train.epochs", "8", "--parallel.device_num", "1")
    assert (found["optimizer.name"], found["optimizer.momentum"], found["train.epochs"]) == ("momentum", 0.9, 8)
    assert (found["model.num_classes"], found["parallel.device_num"]) == (1001, 1)


def test_it_is_told_once_what_was_translated_and_what_was_dropped_and_why(tmp_path, capsys):
    path = write(tmp_path, RESNET50, boost_level=3)
    load_config(path)
    load_config(path)
    lines = capsys.readouterr().err.splitlines()
    assert all(line.startswith(f"{path}: ") for line in lines)
    told = [line.removeprefix(f"{path}: ") for line in lines]
    assert told[0].startswith("a flat file of MindSpore's own, translated: device_target, device_id, ")
    assert told[1].startswith("added: data.workers=8, optimizer.learning_rate.decay_epochs=39, ")
    dropped = {key: line.partition(": ")[2] for line in told[2:]
               for key in line.removeprefix("dropped ").partition(": ")[0].split(", ")}
    assert set(dropped) & set(told[0].partition(": ")[2].split(", ")) == set()
    assert set(dropped) | set(told[0].partition(": ")[2].split(", ")) == {*RESNET50, "boost_level"}
    assert dropped["enable_modelarts"] == "ModelArts is not used here"
    assert dropped["conv_init"] == "networks here bring their own initial values"
    assert dropped["boost_level"] == "nothing here is set by it"
    assert len(told) == len(set(told)) < 20


def test_ranks_of_a_launcher_tell_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MS_WORKER_NUM", "2")
    load_config(write(tmp_path, RESNET50))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("base, changes, key, expected", [
    (RESNET50, {"net_name": "se-resnet50"}, "net_name", "net_name='se-resnet50'; must be one of resnet18, "),
    (RESNET50, {"dataset": "flower_photos"}, "dataset", "dataset='flower_photos'; must be one of digits, "),
    (RESNET50, {"optimizer": "Lamb"}, "optimizer", "optimizer='Lamb'; must be one of Thor, Momentum, LARS; "),
    (RESNET50, {"lr_init": "much"}, "lr_init", "lr_init='much'; must be a number; "),
    (RESNET50, {"damping_init": None}, "", "damping_init is missing; must be a number; "),
    (RESNET50, {"batch_size": 0}, "batch_size", "data.batch_size=0; must be an int >= 1"),
    (RESNET50, {"frequency": "often"}, "frequency", "optimizer.frequency='often'; must be an int >= 1"),
    (RESNET50, {"pre_trained": 3}, "pre_trained", "train.init_from=3; must be the path of a file of weights"),
    (RESNET50, {"filter_weight": True}, "filter_weight", "filter_weight=True; must be false; a head of another "),
    (RESNET50, {"parameter_server": True}, "parameter_server", "parameter_server=True; must be false; "),
    (RESNET50, {"device_target": "TPU"}, "device_target", "device_target='TPU'; must be one of CPU, GPU, Ascend; "),
    (RESNET50, {"save_checkpoint": "maybe"}, "save_checkpoint", "save_checkpoint='maybe'; must be true or false; "),
    (RESNET50, {"frequency": None, "frequncy": 5}, "frequncy", "unknown key frequncy; did you mean frequency?"),
    (RESNET50, {"net_name": None}, "", "names no network; "),
    (RESNET50, {"train": {"epochs": 3}}, "train", "train beside net_name; must be a flat file of MindSpore's own or "),
    (RESNET50, {"extends": "x.yaml"}, "extends", "extends beside net_name; must be a flat file of MindSpore's own or "),
    (MOMENTUM, {"lr_decay_mode": "cosine"}, "lr_decay_mode", "lr_decay_mode='cosine'; must be linear or poly; "),
    (BERT, {"bert_network": "huge"}, "bert_network", "bert_network='huge'; must be one of base, nezha, large, "),
    (BERT, {"train_steps": -1}, "train_steps", "train_steps=-1; must be an int >= 1000; rates and damping are "),
    (BERT, {"large_net_cfg": None}, "", "large_net_cfg is missing; must be a section of the file with the sizes "),
    (BERT, {"Thor": 3}, "Thor", "Thor=3; must be a section of the file; "),
    (BERT, {"large_net_cfg": {**BERT["large_net_cfg"], "hidden_act": "relu"}}, "  hidden_act",
     "model.bert.activation='relu'; must be one of gelu, gelu_tanh, fast_gelu"),
    (BERT, {"optimizer": "Lamb", "Lamb": {**BERT["Lamb"], "decay_filter": ["bias"]}}, "  decay_filter",
     "decay_filter=['bias']; must be ['layernorm', 'bias']; "),
    ({"bert_net_cfg": {}, "epoch_num": 3}, {}, "", "is of BERT's fine-tuning; must be a file of its pretraining, "),
])
def test_what_cannot_be_translated_is_one_line_with_its_line(base, changes, key, expected, tmp_path, capsys):
    path = write(tmp_path, base, **changes)
    lines = path.read_text().splitlines()
    number = next((i for i, line in enumerate(lines, 1) if line.startswith(f"{key}:")), 1)
    found = refusal(path)
    if key.startswith(" "):  # of a section that several networks have
        assert lines[int(found.removeprefix(f"{path}:").partition(":")[0]) - 1].startswith(f"{key}:")
        assert found.partition(": ")[2].startswith(expected)
    else:
        assert found.startswith(f"{path}:{number}: {expected}")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("base", [RESNET50, MOMENTUM, BERT], ids=["thor", "momentum", "bert"])
def test_no_value_of_any_key_breaks_the_translation(base):
    """Each is translated, perhaps to what its section refuses, or refused."""
    places = [(key,) for key in base] + [(key, name) for key in base if isinstance(base[key], dict)
                                         for name in base[key]]
    for place in places:
        for value in ({"a": 1}, ["x"], "x", "", None, float("nan")):
            changed = {**base, place[0]: value if len(place) == 1 else {**base[place[0]], place[1]: value}}
            try:
                found = translated(node_of(changed, "here"), Path("flat.yaml"), {"optimizer"})
            except ConfigError as error:
                assert "\n" not in str(error)
            else:
                assert not found.lines()[0].endswith(": ") and dict(flattened(config_of(found.tree)))


def config_of(node):
    return {key: config_of(child) for key, child in node.value.items()} if node.is_mapping else node.value


def test_other_files_have_one_document(tmp_path):
    path = tmp_path / "two.yaml"
    path.write_text("seed: 1\n---\nseed: 2\n")
    assert refusal(path) == f"{path}:2: not valid YAML: another document; a config is one; remove the line ---"


@pytest.mark.parametrize("base", [RESNET50_GPU, MOMENTUM, BERT], ids=["gpu", "momentum", "bert"])
def test_the_command_writes_a_configuration_that_says_the_same(base, tmp_path, capsys):
    path, out = write(tmp_path, base), tmp_path / "ours.yaml"
    assert translate.main([str(path), "-o", str(out)]) == 0
    assert load_config(out) == load_config(path)
    assert "batch_size" in out.read_text() and f"{path}: dropped " in capsys.readouterr().err
    assert translate.main([str(path)]) == 0
    assert capsys.readouterr().out == out.read_text()


def test_what_the_command_refuses(tmp_path, capsys):
    def refused(*words):
        assert translate.main([str(word) for word in words]) == 1
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        return err

    path, digits = write(tmp_path, RESNET50), CONFIGS / "resnet/resnet18_digits.yaml"
    load_config(path)
    capsys.readouterr()  # told once
    assert refused(digits).startswith(f"error: {digits}: must be a flat file of MindSpore's ResNet or BERT program, ")
    assert refused(path, "-o", digits).startswith(f"error: --output={digits}; must be a new file (File exists); ")
    assert "; must be a new file (No such file or directory); " in refused(path, "-o", tmp_path / "no" / "o.yaml")
    bad = write(tmp_path, RESNET50, "bad.yaml", epoch_size=0)
    assert refused(bad, "-o", tmp_path / "o.yaml").startswith(f"error: {bad}:15: train.epochs=0; must be an int >= 1")
    assert not (tmp_path / "o.yaml").exists()


def test_translating_does_not_import_mindspore(tmp_path):
    code = "import sys, models.translate as t; t.main(sys.argv[1:]); sys.exit('mindspore' in sys.modules)"
    command = [sys.executable, "-c", code, str(write(tmp_path, BERT))]
    assert subprocess.run(command, cwd=ROOT, check=False, capture_output=True).returncode == 0
