"""The command line: ``python run.py train``; the same as the installed ``automix``."""

from automix.agents.cli import run

if __name__ == "__main__":
    run()
