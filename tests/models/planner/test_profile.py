"""Profiles: what they refuse, in one line, and files that hold them."""
from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from models.planner.profile import ProfileError, Published, dump_profile, load_profile
from tests.helpers.planner_cases import PROFILE

FOLDER = Path(__file__).parents[3] / "configs" / "profiles"


@pytest.mark.parametrize("name, value, message", [
    ("covariance_flops", 0, "covariance_flops=0; must be a number > 0; measure it or state what you assume"),
    ("inverse_flops", "fast", "inverse_flops='fast'; must be a number > 0; measure it or state what you assume"),
    ("copy_bytes", float("nan"), "copy_bytes=nan; must be a number > 0; measure it or state what you assume"),
    ("memory_gib", True, "memory_gib=True; must be a number > 0; measure it or state what you assume"),
    ("devices_per_node", 2.5, "devices_per_node=2.5; must be an int >= 1; count the devices"),
    ("intra_node_latency", -1.0, "intra_node_latency=-1.0; must be a number >= 0; give seconds a message"),
    ("overlap", 1.5, "overlap=1.5; must be a number from 0 to 1; use 0 if communication waits for the backward pass, "
                     "1 if it hides behind it"),
    ("fuses_gradients", 1, "fuses_gradients=1; must be true or false; use one of the two"),
    ("activation_bytes", 8, "activation_bytes=8; must be 2 or 4; use 2 for float16, 4 for float32"),
    ("name", " ", "name=' '; must be text; put it in quotes"),
    ("published", ("x",), "published=('x',); must be a list of results; see configs/profiles/ascend910.yaml"),
])
def test_wrong_values_are_told_in_one_line(name, value, message):
    with pytest.raises(ProfileError) as error:
        dataclasses.replace(PROFILE, **{name: value})
    assert str(error.value) == message


@pytest.mark.parametrize("values, message", [
    ({"minutes": -1}, "minutes=-1; must be a number > 0"), ({"devices": 0}, "devices=0; must be an int >= 1"),
    ({"source": ""}, "source=''; must be text"), ({"calibrated": "no"}, "calibrated='no'; must be true or false")])
def test_wrong_published_results(values, message):
    with pytest.raises(ProfileError, match=message):
        Published(**{"config": "resnet50", "devices": 8, "source": "article", **values})


def test_a_profile_is_read_as_it_was_written(tmp_path):
    profile = dataclasses.replace(PROFILE, inverse_flops=1.25e12, published=(Published("bert", 8, "log", minutes=5.0),))
    path = tmp_path / "profile.yaml"
    path.write_text(dump_profile(profile))
    assert load_profile(path) == profile


@pytest.mark.parametrize("change, message", [
    (("overlap: 0.0", "overlaps: 0.0"), "unknown key overlaps; must be one of name, description"),
    (("memory_gib: 1.0\n", ""), "memory_gib is missing; measure it with python -m models.planner --measure"),
    (("overlap: 0.0", "overlap: 2"), "overlap=2; must be a number from 0 to 1"),
    (("overlap: 0.0", "published: 3"), "published=3; must be a list of results"),
    (("overlap: 0.0", "published: [3]"), "3; must be a mapping with the keys config, devices"),
])
def test_wrong_files_name_the_file(tmp_path, change, message):
    path = tmp_path / "profile.yaml"
    path.write_text(dump_profile(PROFILE).replace(*change))
    with pytest.raises(ProfileError) as error:
        load_profile(path)
    assert str(error.value).startswith(f"{path}: {message}") and "\n" not in str(error.value)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(ProfileError, match="cannot read the profile: No such file or directory"):
        load_profile(tmp_path / "no.yaml")


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_profiles_of_the_tree_are_valid(path):
    profile = load_profile(path)
    assert profile.cluster.devices_per_node == profile.devices_per_node
    assert [entry for entry in profile.published if entry.calibrated] == [
        entry for entry in profile.published if entry.devices == 8 and entry.stale_seconds == 0.0204]
