"""``python worker.py MODULE ARGUMENT...`` is ``python -m MODULE ARGUMENT...`` for msrun, which starts files only."""
import contextlib
import os
import runpy
import sys
import traceback
from pathlib import Path

sys.argv = sys.argv[1:]
sys.path[:1] = [os.getcwd(), str(Path(__file__).resolve().parents[2])]

from models.launch.alive import WELL, end_with_launcher, folder_of_launch, hold, own_name, tell  # noqa: E402


def main() -> None:
    """Run the module, and leave word of how it ended."""
    folder = folder_of_launch()
    if folder:
        end_with_launcher(folder)
    mark = hold(folder, own_name()) if folder else None
    status = 1
    try:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if status == 1 != error.code:
            print(error.code, file=sys.stderr)
        sys.exit(status)
    except Exception:
        traceback.print_exc()  # before the launcher reads the log
        sys.exit(status)
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
        if mark:
            tell(mark, f"ended with status {status}" if status else WELL)


main()
