"""Configuration files: line numbers, extends, overrides, and the way back to YAML."""
from __future__ import annotations

import subprocess
import sys

import pytest

from models.config import Config, ConfigError, UsageError, dump_config, load_config
from tests.helpers import ROOT


def write(folder, name, text):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def message(path, *overrides):
    with pytest.raises(ConfigError) as raised:
        load_config(path, overrides)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_no_file_gives_the_defaults():
    assert load_config() == Config()


def test_extends_merges_section_by_section(tmp_path):
    write(tmp_path, "base/base.yaml", "seed: 3\n"
          "optimizer: {frequency: 7, damping: {schedule: thor, decay: 3, initial: 1}}\n")
    write(tmp_path, "base/middle.yaml", "extends: base.yaml\noptimizer:\n  damping: {initial: 0.1}\n")
    config = load_config(write(tmp_path, "top/top.yaml", "extends: ../base/middle.yaml\nseed: 5\n"))
    assert (config.seed, config.optimizer.frequency) == (5, 7)
    assert (config.optimizer.damping.initial, config.optimizer.damping.decay) == (0.1, 3.0)


def test_lists_are_replaced_not_merged(tmp_path):
    write(tmp_path, "base.yaml", "optimizer: {split_indices: [26, 53]}\nparallel: {device_num: 2}\n")
    path = write(tmp_path, "top.yaml", "extends: base.yaml\noptimizer: {split_indices: [9]}\n")
    assert load_config(path).optimizer.split_indices == (9,)


def test_extends_cycle_is_refused_with_its_line(tmp_path):
    write(tmp_path, "a.yaml", "seed: 1\nextends: b.yaml\n")
    path = write(tmp_path, "b.yaml", "extends: a.yaml\n")
    assert message(path) == (f"{tmp_path}/a.yaml:2: extends='b.yaml' leads back to itself; "
                             "remove one of the extends")
    itself = write(tmp_path, "self.yaml", "extends: ./self.yaml\n")
    assert message(itself).startswith(f"{itself}:1: extends='./self.yaml' leads back to itself")


def test_missing_base_is_refused_with_its_line(tmp_path):
    path = write(tmp_path, "a.yaml", "\nextends: nowhere.yaml\n")
    assert message(path) == f"{path}:2: extends='nowhere.yaml'; must be a file relative to {tmp_path}"
    path = write(tmp_path, "b.yaml", "extends: [a.yaml]\n")
    assert message(path) == f"{path}:1: extends=['a.yaml']; must be the path of one YAML file"


@pytest.mark.parametrize("text, line, expected", [
    ("seed: 1\noptimizer:\n  frequncy: 3\n", 3,
     "unknown key optimizer.frequncy; did you mean optimizer.frequency?"),
    ("frequency: 3\n", 1, "unknown key frequency; did you mean optimizer.frequency?"),
    ("optimiser: {}\n", 1, "unknown key optimiser; did you mean optimizer?"),
    ("data:\n  zzz: 1\n", 2, "unknown key data.zzz; known here: data.name, data.path, data.eval_path, "
     "data.batch_size, data.eval_batch_size, data.image_size, data.workers, data.augment"),
    ("optimizer:\n  damping:\n    initial: small\n", 3,
     "optimizer.damping.initial='small'; must be a number > 0"),
    ("data: {name: mnist,\n  batch_size: 0}\n", 2, "data.batch_size=0; must be an int >= 1"),
    ("data: 3\n", 1, "data=3; must be a section; set keys inside it, such as data.name"),
    ("data:\n  name: {a: 1}\n", 2, "data.name must be a value, not a section"),
    ("seed: 1\nseed: 2\n", 2, "seed is given twice; first at {path}:1; keep one"),
    ("\n\n- 1\n", 3, "a config must be a mapping of sections, got [1]"),
    ("seed: 1\n7: 2\n", 2, "key 7; must be the name of a setting"),
    ("model:\n  num_classes: 5\n", 2,
     "model.num_classes=5; must be >= 10 for digits; leave it null for that"),
])
def test_mistakes_are_named_with_file_and_line(tmp_path, text, line, expected):
    path = write(tmp_path, "bad.yaml", text)
    assert message(path) == f"{path}:{line}: " + expected.replace("{path}", str(path))


def test_a_mistake_in_the_base_is_placed_in_the_base(tmp_path):
    base = write(tmp_path, "base.yaml", "seed: 1\ntrain: {epochs: 0}\n")
    path = write(tmp_path, "top.yaml", "extends: base.yaml\ntrain: {sink: true}\n")
    assert message(path) == f"{base}:2: train.epochs=0; must be an int >= 1"


@pytest.mark.parametrize("text", ["a: [1,\n", "a: b: c\n", "\tseed: 1\n", "seed: !!python/name:os.system\n"])
def test_broken_yaml_is_refused_in_one_line(tmp_path, text):
    path = write(tmp_path, "bad.yaml", text)
    assert message(path).startswith(f"{path}:")
    assert "not valid YAML: " in message(path)


def test_unreadable_files_are_refused(tmp_path):
    assert message(tmp_path / "no.yaml") == (f"{tmp_path}/no.yaml: cannot read the config: No such file or "
                                             "directory; give the path of a YAML file")
    binary = tmp_path / "bin.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert message(binary).startswith(f"{binary}: cannot read the config: not UTF-8 text; give the path")


def test_scalars_are_those_of_yaml_1_2(tmp_path):
    config = load_config(write(tmp_path, "a.yaml", "optimizer: {weight_decay: 5e-4}\n"
                                                   "device: {convolution_isa: off}\ndata: {name: mnist, path: 'no'}\n"))
    assert config.optimizer.weight_decay == 5e-4
    assert config.device.convolution_isa == "off"
    assert config.data.path == "no"


def test_overrides_win_over_files_and_later_ones_over_earlier_ones(tmp_path):
    path = write(tmp_path, "a.yaml", "optimizer: {frequency: 7, name: kfac}\nparallel: {device_num: 8}\n")
    config = load_config(path, ["--optimizer.frequency", "50", "--optimizer.split_indices=[26, 53]",
                                "--train.sink_size", "-1", "--optimizer.frequency=60", "--train.sink", "true",
                                "--optimizer.split_dim", "null", "--optimizer.damping", "{initial: 5e-4}"])
    assert config.optimizer.frequency == 60
    assert config.optimizer.split_indices == (26, 53)
    assert config.optimizer.split_dim is None
    assert config.optimizer.damping.initial == 5e-4
    assert config.optimizer.name == "kfac"
    assert (config.train.sink, config.train.sink_size) == (True, -1)


def test_text_settings_take_the_word_of_the_command_line_as_it_stands():
    config = load_config(None, ["--data.name=mnist", "--data.path", "/data/a: b #c", "--train.run_dir=2024"])
    assert (config.data.path, config.train.run_dir) == ("/data/a: b #c", "2024")


@pytest.mark.parametrize("words, kind, expected", [
    (["--optimizer.frequency", "0"], ConfigError,
     "--optimizer.frequency: optimizer.frequency=0; must be an int >= 1; use 1 to refresh curvature"),
    (["--optimizer.frequncy=3"], ConfigError,
     "--optimizer.frequncy: unknown key optimizer.frequncy; did you mean optimizer.frequency?"),
    (["--train.sink", "yes"], ConfigError, "--train.sink: train.sink='yes'; must be true or false"),
    (["--seed"], UsageError, "--seed: needs a value; write --section.key value"),
    (["--seed", "--data.name", "mnist"], UsageError, "--seed: needs a value; write --section.key value"),
    (["seed", "3"], UsageError, "command line: 'seed'; must be --section.key value"),
    (["--optimizer.split_indices", "[1"], ConfigError, "--optimizer.split_indices: not valid YAML: "),
    (["--data.path.deep", "3"], ConfigError, "--data.path.deep: data.path must be a value, not a section"),
])
def test_wrong_overrides_name_the_flag(words, kind, expected):
    with pytest.raises(kind) as raised:
        load_config(None, words)
    assert str(raised.value).startswith(expected)


def test_dump_reloads_to_an_equal_config(tmp_path):
    config = load_config(None, ["--data.name", "imagenet", "--data.path", "1e5", "--train.run_dir", "no: #x",
                                "--optimizer.split_indices", "[26, 53]", "--seed", "4294967295",
                                "--optimizer.damping.initial", "1e-12", "--parallel.device_num", "4",
                                "--optimizer.split_dim", "null", "--device.convolution_isa", "avx2",
                                "--train.resume", "null"])
    assert config.model.num_classes == 1000 and config.model.stem == "imagenet"
    assert load_config(write(tmp_path, "out.yaml", dump_config(config))) == config


def test_importing_and_loading_does_not_import_mindspore():
    code = ("import sys, models.config as c; c.dump_config(c.load_config()); "
            "sys.exit('mindspore' in sys.modules or 'numpy' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
