"""The command line: ``python run.py train``; the same as the installed ``automix``."""

from automix.agents.cli.main import main

if __name__ == "__main__":
    main()
