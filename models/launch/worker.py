"""``python worker.py MODULE ARGUMENT...`` is ``python -m MODULE ARGUMENT...`` for msrun, which starts files only."""
import os
import runpy
import sys
from pathlib import Path

sys.argv = sys.argv[1:]
sys.path[:1] = [os.getcwd(), str(Path(__file__).resolve().parents[2])]

from models.launch.alive import WELL, folder_of_launch, hold, tell  # noqa: E402


def main() -> None:
    """Run the module, and leave word of how it ended."""
    folder = folder_of_launch()
    mark = hold(folder, int(os.environ["RANK_ID"])) if folder else None
    word = "ended with status 1"
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        word = WELL
    except SystemExit as error:
        word = WELL if error.code in (0, None) else f"ended with status {error.code}"
        raise
    finally:
        if mark:
            tell(mark, word)


main()
