"""Run folders: new ones, resumed ones, and that nothing that is there is touched."""
from __future__ import annotations

import pytest

from models.config import ConfigError, load_config
from models.run_folder import differing_keys, open_run_folder


def configure(tmp_path, *words):
    return load_config(None, ["--train.run_dir", str(tmp_path / "runs"), *words])


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def interrupted(config):
    """A run that wrote a checkpoint and was killed."""
    run = open_run_folder(config)
    (run.checkpoints / "a.ckpt").write_text("weights")
    run.lock.close()
    return run.path


def test_a_run_gets_a_folder_with_its_resolved_config(tmp_path):
    config = configure(tmp_path, "--seed", "3")
    run = open_run_folder(config)
    assert run.path.parent == tmp_path / "runs" / "resnet18_digits_thor"
    assert (run.resumes, run.start_from) == (False, None)
    assert load_config(run.path / "config.yaml") == config
    assert run.checkpoints.is_dir()


def test_runs_started_in_the_same_second_get_folders_of_their_own(tmp_path):
    config = configure(tmp_path, "--train.resume", "never")
    folders = [open_run_folder(config).path for _ in range(3)]
    assert len(set(folders)) == 3


def test_auto_goes_on_with_the_newest_unfinished_run_of_the_same_config(tmp_path):
    config = configure(tmp_path)
    interrupted(configure(tmp_path, "--train.resume", "never"))
    newest = interrupted(configure(tmp_path, "--train.resume", "never"))
    other = interrupted(configure(tmp_path, "--seed", "9"))
    before = contents(tmp_path)
    run = open_run_folder(config)
    assert (run.path, run.resumes) == (newest, True)
    assert contents(tmp_path) == before
    assert open_run_folder(configure(tmp_path, "--seed", "9")).path == other


def test_auto_goes_on_in_a_new_folder_where_only_the_number_of_devices_differs(tmp_path):
    older = interrupted(configure(tmp_path, "--parallel.device_num", "2", "--train.resume", "never"))
    newest = interrupted(configure(tmp_path, "--train.resume", "never"))
    run = open_run_folder(configure(tmp_path, "--parallel.device_num", "2"))
    assert run.path not in (older, newest) and not run.resumes and run.start_from == newest / "checkpoints"
    assert load_config(run.path / "config.yaml").parallel.device_num == 2
    (run.checkpoints / "b.ckpt").write_text("weights")
    run.lock.close()
    again = open_run_folder(configure(tmp_path))
    assert again.start_from == run.checkpoints


def test_auto_starts_anew_where_a_run_on_other_devices_was_finished(tmp_path):
    path = interrupted(configure(tmp_path))
    (path / "results.json").write_text("{}")
    run = open_run_folder(configure(tmp_path, "--parallel.device_num", "2"))
    assert not run.resumes and run.start_from is None


def test_auto_leaves_finished_used_and_empty_runs_alone(tmp_path):
    config = configure(tmp_path)
    run = open_run_folder(config)
    assert open_run_folder(config).path != run.path  # no checkpoint yet
    (run.checkpoints / "a.ckpt").write_text("weights")
    assert open_run_folder(config).path != run.path  # in use
    run.lock.close()
    run.finish({"top_1_accuracy": 0.5})
    fresh = open_run_folder(config)
    assert not fresh.resumes and fresh.path != run.path
    assert (run.path / "results.json").read_text() == '{\n  "top_1_accuracy": 0.5\n}\n'


def test_never_starts_anew(tmp_path):
    path = interrupted(configure(tmp_path))
    run = open_run_folder(configure(tmp_path, "--train.resume", "never"))
    assert run.path != path and not run.resumes


def test_a_given_folder_is_resumed_and_a_given_checkpoint_starts_a_new_run(tmp_path):
    path = interrupted(configure(tmp_path))
    run = open_run_folder(configure(tmp_path, "--train.resume", str(path)))
    assert (run.path, run.resumes, run.start_from) == (path, True, None)
    checkpoint = path / "checkpoints" / "a.ckpt"
    run = open_run_folder(configure(tmp_path, "--train.epochs", "20", "--train.resume", str(checkpoint)))
    assert run.path != path
    assert (run.resumes, run.start_from) == (False, checkpoint)


def test_folders_that_cannot_be_resumed_are_refused_untouched(tmp_path):
    path = interrupted(configure(tmp_path))
    before = contents(tmp_path)

    def message(folder, *words):
        with pytest.raises(ConfigError) as raised:
            open_run_folder(configure(tmp_path, "--train.resume", str(folder), *words))
        assert str(raised.value).startswith(f"train.resume='{folder}'; must be ")
        return str(raised.value)

    assert "it differs in seed, optimizer.damping.initial; give one of its checkpoints" in message(
        path, "--seed", "7", "--optimizer.damping.initial", "0.5")
    assert message(tmp_path / "no").endswith("; there is nothing at that path")
    assert message(tmp_path).endswith("; it has no readable config.yaml")
    assert contents(tmp_path) == before
    (path / "results.json").write_text("{}")
    assert "; it is finished; " in message(path)


def test_a_run_in_use_is_refused(tmp_path):
    run = open_run_folder(configure(tmp_path))
    (run.checkpoints / "a.ckpt").write_text("weights")
    with pytest.raises(ConfigError, match="must be a run that no process is working on"):
        open_run_folder(configure(tmp_path, "--train.resume", str(run.path)))


def test_where_a_run_writes_is_no_difference(tmp_path):
    first = configure(tmp_path, "--train.resume", "never")
    second = load_config(None, ["--optimizer.split_indices", "[1]"])
    assert differing_keys(first, second) == ["optimizer.split_indices"]


def test_auto_does_not_go_back_behind_a_finished_run(tmp_path):
    interrupted(configure(tmp_path))
    newer = open_run_folder(configure(tmp_path, "--train.resume", "never"))
    (newer.checkpoints / "a.ckpt").write_text("weights")
    newer.lock.close()
    newer.finish({})
    assert not open_run_folder(configure(tmp_path)).resumes


def test_a_link_to_nowhere_in_the_place_of_the_runs_is_told(tmp_path):
    (tmp_path / "runs").symlink_to(tmp_path / "gone")
    with pytest.raises(FileExistsError, match="File exists: .*runs"):
        open_run_folder(configure(tmp_path))
