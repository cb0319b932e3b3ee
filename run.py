"""The command line: ``python run.py train``; the same as the installed ``automix``."""

from agents.cli.main import main

if __name__ == "__main__":
    main()
