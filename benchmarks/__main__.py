"""Run the benchmarks of this folder: ``python -m benchmarks --help``."""

import sys

from benchmarks.command import main

if __name__ == "__main__":
    sys.exit(main())
