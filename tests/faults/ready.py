"""Imported once by the process that commands are forked from, so that each starts in no time."""

from importlib import import_module

import torch

for name in ("agents.cli.main", "agents.cli.runs", "agents.jobs", "tests.faults.trouble"):
    import_module(name)
torch.set_num_threads(1)
