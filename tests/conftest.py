"""Settings and data that all tests share."""

from __future__ import annotations

import pytest
import torch
from hypothesis import settings

from automix.data.tasks import Task
from tests import tiny

# Fixed examples, so that a run that passes here passes anywhere; no database is kept.
settings.register_profile("fixed", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("fixed")
# For what is crossed with every mix: few of each, and many where time does not matter.
settings.register_profile("few", settings.get_profile("fixed"), max_examples=3)
settings.register_profile("many", settings.get_profile("fixed"), max_examples=200)

# Tensors here are tiny: threads would cost more than they bring, and runs share machines.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def digits_task() -> Task:
    """60 training and 30 validation digits."""
    return tiny.digits_task()
