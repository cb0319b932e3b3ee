"""The command line: `main` finds the command, `commands` holds one file each."""
