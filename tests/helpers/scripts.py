"""Shell scripts run with a stand-in for Python, which writes down what it is asked to run."""
from __future__ import annotations

import os
import subprocess
import sys

from tests.helpers import ROOT

STAND_IN = """#!/usr/bin/env bash
# Answers for Python VERSION and writes down what it is asked to run; a real Python reads the arguments of a launch.
case "$1 $2" in
*"/models/launch/forms.py "*) exec REAL "$@" ;;
"-c import"*) echo VERSION ;;
"-m venv")
    mkdir -p "${@: -1}/bin" && cp "$0" "${@: -1}/bin/python"
    case "$*" in
    *--system-site-packages*)
        echo "venv that sees the system" >>LOG
        echo "include-system-site-packages = true" >"${@: -1}/pyvenv.cfg" ;;
    *) echo "venv" >>LOG ;;
    esac ;;
"-m pip") echo "pip ${@: -1}" >>LOG; [ ! -e LOG.fail ] || { echo "no such package"; exit 1; } ;;
*) echo "$PWD: $*" >>LOG; env >LOG.env ;;
esac
"""


def stand_in(folder, version="3.11"):
    path = folder / f"python{version}"
    text = STAND_IN.replace("VERSION", version).replace("LOG", str(folder / "log")).replace("REAL", sys.executable)
    path.write_text(text)
    path.chmod(0o755)
    return path


def run(script, *arguments, cwd=ROOT, **variables):
    of_devices = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME", "CANN", "CUDA_HOME", "LD_LIBRARY_PATH", "PYTHONPATH")
    environment = {name: value for name, value in os.environ.items() if name not in of_devices}
    environment.update(HOME="/nowhere", CUDA_PLACE="/nowhere")
    environment.update({name: str(value) for name, value in variables.items()})
    return subprocess.run(["bash", str(ROOT / "scripts" / script), *map(str, arguments)], cwd=cwd,
                          env=environment, capture_output=True, text=True, check=False)


def log(sandbox):
    return (sandbox["VENV"].parent / "log").read_text().splitlines()
