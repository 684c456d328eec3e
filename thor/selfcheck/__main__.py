"""``python -m thor.selfcheck``; also the file msrun starts."""
import sys

from thor.selfcheck.command import main

if __name__ == "__main__":
    sys.exit(main())
