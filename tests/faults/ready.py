"""Imported once by the process that commands are forked from, so that each starts in no time."""

from importlib import import_module

import torch

for name in (
    "automix.agents.cli.main",
    "automix.agents.cli.runs",
    "automix.agents.jobs.run",
    "tests.faults.trouble",
):
    import_module(name)
torch.set_num_threads(1)
