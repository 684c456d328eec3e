"""The shell scripts: arguments, paths, and the environment they make, with a stand-in for Python."""
from __future__ import annotations

import os
import subprocess

import pytest

from tests.helpers import ROOT
from tests.helpers.scripts import log, run, stand_in


@pytest.mark.parametrize("script, arguments", [
    ("run_standalone_train.sh", ["data"]),
    ("run_standalone_train.sh", ["data", "--seed", "1"]),
    ("run_eval.sh", []),
    ("run_eval.sh", ["data", "checkpoint"]),
    ("run_eval.sh", ["data", "checkpoint", "--seed", "1"]),
    ("run_standalone_train_gpu.sh", ["data", "config", "True", "held_out", "checkpoint", "more"]),
    ("run_eval_gpu.sh", ["data", "checkpoint", "config", "more"]),
])
def test_wrong_number_of_arguments_shows_the_usage(script, arguments, sandbox):
    result = run(script, *arguments, **sandbox)
    assert result.returncode == 1
    assert result.stderr.startswith(f"usage: bash {script} ") and result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert not sandbox["VENV"].exists()


@pytest.mark.parametrize("script", ["run_standalone_train.sh", "run_eval.sh", "run_standalone_train_gpu.sh",
                                    "run_eval_gpu.sh"])
def test_help_goes_to_standard_output(script, sandbox):
    result = run(script, "--help", **sandbox)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"usage: bash {script} ")


@pytest.mark.parametrize("script, arguments, expected", [
    ("run_standalone_train.sh", ["no", "setup.py"], "error: DATASET_PATH=no is not a directory\n"),
    ("run_standalone_train.sh", ["setup.py", "setup.py"],
     "error: DATASET_PATH=setup.py is not a directory\n"),
    ("run_standalone_train.sh", ["models", "no.yaml"], "error: CONFIG_PATH=no.yaml is not a file\n"),
    ("run_eval.sh", ["no", "setup.py", "setup.py"], "error: DATASET_PATH=no is not a directory\n"),
    ("run_eval.sh", ["none", "no.ckpt", "setup.py"], "error: CHECKPOINT_PATH=no.ckpt is not a file\n"),
    ("run_eval.sh", ["models", "setup.py", "models"], "error: CONFIG_PATH=models is not a file\n"),
])
def test_missing_paths_are_named(script, arguments, expected, sandbox):
    result = run(script, *arguments, **sandbox)
    assert (result.returncode, result.stderr, result.stdout) == (1, expected, "")
    assert not sandbox["VENV"].exists()


def test_without_arguments_the_digits_run_starts_from_the_repository(sandbox, tmp_path):
    result = run("run_standalone_train.sh", cwd=tmp_path, **sandbox)
    assert (result.returncode, result.stdout) == (0, "")
    assert result.stderr.startswith(f"setting up {sandbox['VENV']} with Python 3.11")
    assert log(sandbox) == ["venv", "pip .[zoo]",
                            f"{ROOT}: -m models.train --config {ROOT}/configs/resnet/resnet18_digits.yaml"]


def test_overrides_alone_change_the_digits_run(sandbox):
    run("run_standalone_train.sh", "--optimizer.frequency", "5", "--seed=2", **sandbox)
    assert log(sandbox)[-1].endswith("resnet18_digits.yaml --optimizer.frequency 5 --seed=2")


def test_paths_become_absolute_and_overrides_follow(sandbox, tmp_path):
    (tmp_path / "my data").mkdir()
    (tmp_path / "run.yaml").write_text("seed: 1\n")
    run("run_standalone_train.sh", "my data", "run.yaml", "--seed", "3", cwd=tmp_path, **sandbox)
    assert log(sandbox)[-1] == (f"{ROOT}: -m models.train --config {tmp_path}/run.yaml "
                                f"--data.path {tmp_path}/my data --seed 3")
    run("run_standalone_train.sh", "none", "run.yaml", cwd=tmp_path, **sandbox)
    assert log(sandbox)[-1] == f"{ROOT}: -m models.train --config {tmp_path}/run.yaml"


def test_evaluation_gets_its_three_paths(sandbox, tmp_path):
    (tmp_path / "a.ckpt").write_text("")
    (tmp_path / "run.yaml").write_text("")
    run("run_eval.sh", ".", "a.ckpt", "run.yaml", "--data.workers", "1", cwd=tmp_path, **sandbox)
    assert log(sandbox)[-1] == (f"{ROOT}: -m models.evaluate --config {tmp_path}/run.yaml --checkpoint "
                                f"{tmp_path}/a.ckpt --data.path {tmp_path} --data.workers 1")


def test_a_gpu_gets_the_same_arguments(sandbox, tmp_path):
    for name in ("a.ckpt", "run.yaml"):
        (tmp_path / name).write_text("")
    run("run_standalone_train_gpu.sh", "none", "run.yaml", "True", ".", "a.ckpt", cwd=tmp_path, **sandbox)
    assert log(sandbox)[-1] == (f"{ROOT}: -m models.train --config {tmp_path}/run.yaml --device.target GPU "
                                f"--data.eval_path {tmp_path} --train.resume {tmp_path}/a.ckpt")
    run("run_eval_gpu.sh", "none", "a.ckpt", "run.yaml", cwd=tmp_path, **sandbox)
    assert log(sandbox)[-1] == (f"{ROOT}: -m models.evaluate --config {tmp_path}/run.yaml --checkpoint "
                                f"{tmp_path}/a.ckpt --device.target GPU")


def test_the_environment_is_made_once_and_used_again_in_silence(sandbox):
    run("run_tests.sh", "-k", "x", **sandbox)
    pytest = "-m pytest -q -n 2 --dist loadfile --no-loadscope-reorder"
    assert log(sandbox) == ["venv", "pip .[zoo,test]", f"{ROOT}: {pytest} -k x"]
    for script in ("run_tests.sh", "run_standalone_train.sh"):
        result = run(script, **sandbox)
        assert (result.returncode, result.stderr, result.stdout) == (0, "", "")
    assert [line for line in log(sandbox) if line.startswith(("venv", "pip"))] == ["venv", "pip .[zoo,test]"]


def test_more_extras_are_added_to_the_same_environment(sandbox):
    run("run_standalone_train.sh", **sandbox)
    run("run_tests.sh", **sandbox)
    assert [line for line in log(sandbox) if line.startswith(("venv", "pip"))] == [
        "venv", "pip .[zoo]", "pip .[zoo,test]"]


def test_an_environment_of_another_python_is_made_anew(sandbox, tmp_path):
    run("run_standalone_train.sh", **sandbox)
    (sandbox["VENV"] / ".ready-zoo").unlink()
    sandbox["PYTHON"] = stand_in(tmp_path, "3.10")
    run("run_standalone_train.sh", **sandbox)
    assert log(sandbox)[3:5] == ["venv", "pip .[zoo]"]


@pytest.mark.parametrize("version, expected", [
    ("3.9", "error: PYTHON={python} is Python 3.9; set PYTHON to Python 3.10, 3.11 or 3.12\n"),
    ("3.13", "error: PYTHON={python} is Python 3.13; set PYTHON to Python 3.10, 3.11 or 3.12\n")])
def test_a_wrong_python_is_refused(version, expected, tmp_path):
    python = stand_in(tmp_path, version)
    result = run("run_standalone_train.sh", PYTHON=python, VENV=tmp_path / "venv")
    assert (result.returncode, result.stderr) == (1, expected.replace("{python}", str(python)))


def test_a_python_that_does_not_run_is_refused(tmp_path):
    result = run("run_tests.sh", PYTHON="/no/python", VENV=tmp_path / "venv")
    assert result.returncode == 1
    assert result.stderr == "error: PYTHON=/no/python does not run; set PYTHON to Python 3.10, 3.11 or 3.12\n"


@pytest.fixture
def bare_path(tmp_path):
    """A folder for PATH with the tools of the scripts, and no Python."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("bash", "basename", "cat", "cksum", "cp", "dirname", "env", "mkdir", "realpath", "rm"):
        (tools / tool).symlink_to(subprocess.check_output(["which", tool], text=True).strip())
    return tools


@pytest.mark.parametrize("versions, told", [
    ([], ""), (["3.13"], ", whose python3 is Python 3.13"), (["3.14", "3.15"], ", whose python3 is Python 3.14")])
def test_no_fitting_python_is_one_line_that_says_how_to_get_one(versions, told, bare_path, tmp_path):
    for version, name in zip(versions, ("python3", "python")):
        stand_in(bare_path, version).rename(bare_path / name)
    result = run("run_tests.sh", PYTHON="", PATH=bare_path, VENV=tmp_path / "venv")
    assert result.returncode == 1
    assert result.stderr == (f"error: no Python 3.10, 3.11 or 3.12 on PATH{told}; install one (uv python install 3.12; "
                             "conda create -n thor python=3.12; apt-get install python3.12 python3.12-venv), or set "
                             "PYTHON to it\n")


@pytest.mark.parametrize("newer", [False, True])
def test_python_312_is_taken_where_no_other_fits(newer, bare_path, tmp_path):
    stand_in(bare_path, "3.12")
    if newer:
        stand_in(bare_path, "3.13").rename(bare_path / "python3")
    result = run("run_standalone_train.sh", PYTHON="", PATH=bare_path, VENV=tmp_path / "venv")
    assert (result.returncode, result.stderr.splitlines()[0]) == (
        0, f"setting up {tmp_path}/venv with Python 3.12; this is done once and takes a few minutes")
    assert (bare_path / "log").read_text().splitlines()[:2] == ["venv", "pip .[zoo]"]


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12"])
def test_a_supported_python_makes_the_environment(version, tmp_path):
    sandbox = {"PYTHON": stand_in(tmp_path, version), "VENV": tmp_path / "venv"}
    assert run("run_standalone_train.sh", **sandbox).returncode == 0
    assert log(sandbox)[:2] == ["venv", "pip .[zoo]"]


def variables(sandbox):
    """The environment of what a script ran last."""
    lines = (sandbox["VENV"].parent / "log.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)


@pytest.fixture
def cann(tmp_path):
    """A set_env.sh, which reads variables that need not be set and calls what may fail."""
    path = tmp_path / "set_env.sh"
    path.write_text('false\nexport ASCEND_HOME_PATH=/cann PYTHONPATH="/cann/te:$PYTHONPATH" '
                    'LD_LIBRARY_PATH="/cann/lib64:$LD_LIBRARY_PATH" GIVEN="$*"\n')
    return path


def test_cann_is_sourced_and_its_packages_are_seen(sandbox, cann):
    result = run("run_standalone_train.sh", "--seed", "2", CANN=cann, **sandbox)
    assert result.returncode == 0, result.stderr
    assert log(sandbox)[:2] == ["venv that sees the system", "pip .[zoo]"]
    seen = variables(sandbox)
    assert (seen["PYTHONPATH"], seen["LD_LIBRARY_PATH"], seen["GIVEN"]) == ("/cann/te:", "/cann/lib64:", "")
    run("run_standalone_train.sh", ASCEND_HOME_PATH="/sourced/before", **sandbox)
    assert variables(sandbox)["ASCEND_HOME_PATH"] == "/sourced/before"
    assert len(log(sandbox)) == 4  # the environment is not made again


def test_an_environment_made_before_cann_is_made_anew(sandbox, cann):
    run("run_standalone_train.sh", **sandbox)
    run("run_standalone_train.sh", CANN=cann, **sandbox)
    assert [line for line in log(sandbox) if line.startswith("venv")] == ["venv", "venv that sees the system"]


def test_a_cann_that_is_not_there_is_named(sandbox, tmp_path):
    result = run("run_standalone_train.sh", CANN=tmp_path / "no.sh", **sandbox)
    assert (result.returncode, result.stderr) == (
        1, f"error: CANN={tmp_path}/no.sh is not a file; set it to the set_env.sh of CANN\n")


def test_cuda_is_found_and_its_libraries_come_first(sandbox, tmp_path):
    nvcc = tmp_path / "cuda" / "bin" / "nvcc"
    nvcc.parent.mkdir(parents=True)
    nvcc.touch(0o755)
    run("run_standalone_train.sh", CUDA_PLACE=tmp_path / "cuda", LD_LIBRARY_PATH="/cudnn", **sandbox)
    seen = variables(sandbox)
    assert (seen["CUDA_HOME"], seen["LD_LIBRARY_PATH"]) == (f"{tmp_path}/cuda", f"{tmp_path}/cuda/lib64:/cudnn")
    run("run_standalone_train.sh", CUDA_PLACE=tmp_path / "cuda", CUDA_HOME="/mine", LD_LIBRARY_PATH="/mine/lib64",
        **sandbox)
    seen = variables(sandbox)
    assert (seen["CUDA_HOME"], seen["LD_LIBRARY_PATH"]) == ("/mine", "/mine/lib64")


def test_without_devices_the_environment_stays_as_it_is(sandbox):
    run("run_standalone_train.sh", **sandbox)
    assert not {"CUDA_HOME", "LD_LIBRARY_PATH", "ASCEND_HOME_PATH"} & set(variables(sandbox))


def test_no_environment_runs_the_python_it_is_given(tmp_path):
    sandbox = {"PYTHON": stand_in(tmp_path), "VENV": "none"}
    result = run("run_standalone_train.sh", "--seed", "2", **sandbox)
    assert (result.returncode, result.stderr) == (0, "")
    lines = (tmp_path / "log").read_text().splitlines()
    assert lines == [f"{ROOT}: -m models.train --config {ROOT}/configs/resnet/resnet18_digits.yaml --seed 2"]


def test_no_environment_and_no_mindspore_is_one_line(tmp_path):
    python = stand_in(tmp_path)
    python.write_text(python.read_text().replace('case "$1 $2" in', '[[ "$*" != *mindspore* ]] || exit 1\n'
                                                 'case "$1 $2" in'))
    result = run("run_standalone_train.sh", PYTHON=python, VENV="none")
    assert (result.returncode, result.stderr) == (
        1, f"error: VENV=none, but {python} cannot import mindspore; install it there, or leave VENV out\n")


def test_a_failed_installation_shows_pips_words_and_is_tried_again(sandbox, tmp_path):
    (tmp_path / "log.fail").touch()
    result = run("run_standalone_train.sh", **sandbox)
    assert result.returncode == 1
    lines = result.stderr.splitlines()
    assert lines[1] == "no such package"
    assert lines[2].startswith("error: pip could not install the package; ")
    (tmp_path / "log.fail").unlink()
    assert run("run_standalone_train.sh", **sandbox).returncode == 0
    assert log(sandbox)[:3] == ["venv", "pip .[zoo]", "pip .[zoo]"]


def test_ci_runs_the_tests(sandbox):
    result = subprocess.run(["bash", str(ROOT / ".ci" / "run")], cwd="/", capture_output=True, text=True,
                            env={**os.environ, **{k: str(v) for k, v in sandbox.items()}}, check=False)
    assert result.returncode == 0
    assert log(sandbox)[-1] == f"{ROOT}: -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder"
