"""Networks and datasets of one's own: registered in a module that a configuration imports, then used by name."""
from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from models import registry
from models.config import ConfigError, DataConfig, ModelConfig, config_tree, dump_config, load_config

MODULE = '''
import numpy as np
from models.registry import register_dataset, register_network

@register_network("mine_mlp", image_sizes=(6, 12))
def build(model_config, data_config):
    from mindspore import nn
    return nn.SequentialCell(nn.Flatten(), nn.Dense(2 * data_config.image_size ** 2, model_config.num_classes))

@register_dataset("mine_stripes", num_classes=3, channels=2, image_size=6, mean=(0.5, 0.25), std=(0.5, 0.25),
                  training_images=12)
def read(data_config, train, num_parallel_workers, **options):
    import mindspore.dataset as ds
    images = np.full((12 if train else 6, 6, 6, 2), 255, np.uint8)
    labels = np.arange(len(images)) % 3
    return ds.NumpySlicesDataset({"image": images, "label": labels.astype(np.int32)}, num_parallel_workers=1, **options)
'''
FILE = """imports: [mine]
model: {name: mine_mlp}
data: {name: mine_stripes, batch_size: 4, augment: false}
train: {epochs: 1, run_dir: runs}
optimizer: {name: momentum}
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A configuration file whose module registers a network and a dataset."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "run.yaml").write_text(FILE)
    yield "run.yaml"
    if "mine" in sys.modules:
        del sys.modules["mine"]
        registry.unregister_network("mine_mlp")
        registry.unregister_dataset("mine_stripes")


def test_a_module_of_ones_own_brings_network_and_dataset(mine):
    from models.train import train

    config = load_config(mine)
    assert (config.imports, config.model.num_classes, config.model.in_channels) == (("mine",), 3, 2)
    assert (config.data.image_size, config.data.facts.training_images) == (6, 12)
    assert np.isfinite(train(config)["loss"])


def test_the_pixels_are_normalised_with_the_statistics_given(mine):
    from models.data import create_dataset

    batches = create_dataset(load_config(mine).data, train=True, seed=1).create_tuple_iterator(output_numpy=True)
    images, labels = next(batches)
    assert images.shape == (4, 2, 6, 6) and set(labels) <= {0, 1, 2}
    np.testing.assert_allclose(images[:, 0], 1.0, rtol=1e-6)
    np.testing.assert_allclose(images[:, 1], 3.0, rtol=1e-6)


def test_names_of_ones_own_are_checked_like_all_others(mine):
    load_config(mine)
    with pytest.raises(ConfigError, match="model.name='mine_mpl'; must be one of resnet18, .*, bert.*, mine_mlp; did "
                                          "you mean mine_mlp[?]"):
        load_config(mine, ["--model.name", "mine_mpl"])
    with pytest.raises(ConfigError, match="data.image_size=7; must be 6 or 12 for mine_mlp; set data.image_size to 12"):
        load_config(mine, ["--data.image_size", "7"])
    with pytest.raises(ConfigError, match="data.name='mine_strips'; must be one of digits, .*, imagenet, mine_stripes, "
                                          "text; did you mean mine_stripes[?]"):
        load_config(mine, ["--data.name", "mine_strips"])


def test_without_the_import_the_names_are_unknown():
    with pytest.raises(ConfigError, match="^name='mine_mlp'; must be one of resnet18, .*, bert(?!.*mine_mlp)"):
        ModelConfig(name="mine_mlp")
    with pytest.raises(ConfigError, match="^name='mine_stripes'; must be one of digits, .*, text$"):
        DataConfig(name="mine_stripes")


def test_the_import_is_part_of_the_resolved_configuration(mine, tmp_path):
    config = load_config(mine)
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config("again.yaml") == config and config_tree(config)["imports"] == ["mine"]
    assert load_config(mine, ["--imports", "mine"]) == config


@pytest.mark.parametrize("value, message", [
    ("missing_module", "run.yaml:1: imports='missing_module'; must be a module Python finds; start where it is, or put "
     "its folder on PYTHONPATH"),
    ("[json, no-name]", "run.yaml:1: imports=['json', 'no-name']; must be a list of names of Python modules; use e.g. "
     "[my_module]"),
    ("{a: 1}", "run.yaml:1: imports must be a value, not a section"),
])
def test_imports_that_cannot_be_used_are_one_line(value, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(f"imports: {value}\n")
    with pytest.raises(ConfigError) as raised:
        load_config("run.yaml")
    assert str(raised.value) == message


def test_an_error_inside_a_module_is_its_own(mine, tmp_path):
    (tmp_path / "mine.py").write_text("import missing_module\n")
    with pytest.raises(ModuleNotFoundError, match="missing_module"):
        load_config(mine)


def test_a_network_is_registered_once_until_it_is_forgotten():
    registry.register_network("mine_once")(lambda model, data: "built")
    assert registry.network_names()[-1] == "mine_once"
    assert registry.create_network(SimpleNamespace(name="mine_once"), None) == "built"
    with pytest.raises(ValueError, match="^model.name='mine_once' is already registered; choose another name$"):
        registry.register_network("mine_once")(lambda model, data: None)
    registry.unregister_network("mine_once")
    assert "mine_once" not in registry.network_names()


def test_a_dataset_is_registered_once_until_it_is_forgotten():
    facts = dict(num_classes=2, channels=1, image_size=4, mean=(0.5,), std=(0.5,))
    registry.register_dataset("mine_once", **facts)(lambda data_config, train, **options: "read")
    assert registry.dataset_names()[-1] == "mine_once"
    assert registry.dataset("mine_once").read(None, True) == "read"
    with pytest.raises(ValueError, match="^data.name='mine_once' is already registered; choose another name$"):
        registry.register_dataset("mine_once", **facts)(lambda data_config, train, **options: None)
    registry.unregister_dataset("mine_once")
    assert "mine_once" not in registry.dataset_names()
