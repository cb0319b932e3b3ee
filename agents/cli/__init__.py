"""The command line: `main` finds the command, `commands` holds one file each."""

from __future__ import annotations

import sys

from automix.core.extras import MissingExtraError, require


def run() -> None:
    """Run the command line, or say in one line which extra it needs."""
    try:
        require("learn")
    except MissingExtraError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    from automix.agents.cli.main import main

    main()
