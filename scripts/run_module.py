"""``python run_module.py MODULE ARGUMENT...`` is ``python -m MODULE ARGUMENT...``: msrun starts files only."""
import runpy
import sys
from pathlib import Path

sys.argv = sys.argv[1:]
sys.path[0] = str(Path(__file__).resolve().parents[1])
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
