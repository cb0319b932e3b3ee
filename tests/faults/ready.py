"""Imported once by the process that commands are forked from, so that each starts in no time."""

import torch

import agents.cli.main
import agents.cli.runs
import agents.jobs
import tests.agents.tiny_run
import tests.faults.trouble  # noqa: F401

torch.set_num_threads(1)
