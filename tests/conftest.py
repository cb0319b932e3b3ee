"""Settings and data that all tests share."""

from __future__ import annotations

import os

# Tensors here are tiny: threads would cost more than they bring, and runs share machines. Commands
# that tests start inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from hypothesis import settings

from automix.data.tasks import Task
from automix.labels import LABEL_RULES, LabelInfo
from automix.mixes import MIXES, MixInfo
from automix.saliency import SALIENCY, SaliencyInfo
from tests import tiny

# Fixed examples, so that a run that passes here passes anywhere; no database is kept.
settings.register_profile("fixed", deadline=None, derandomize=True, max_examples=25)
settings.load_profile("fixed")
# For what is crossed with every mix: few of each, and many where time does not matter.
settings.register_profile("few", settings.get_profile("fixed"), max_examples=3)
settings.register_profile("many", settings.get_profile("fixed"), max_examples=200)

torch.set_num_threads(1)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Use every core for the whole default run, two for all faults, and one for anything less.

    A few tests are done before workers have started; what is ``slow`` or on ``ray`` wants the
    machine to itself. Faults wait more than they work. ``-n 4`` on the command line is obeyed.
    """
    if config.args_source is not pytest.Config.ArgsSource.TESTPATHS or config.option.keyword:
        return 0
    if config.option.markexpr == "fault":
        return 2
    return None if config.option.markexpr in config.getini("addopts") else 0


@pytest.fixture(scope="session")
def digits_task() -> Task:
    """60 training and 30 validation digits."""
    return tiny.digits_task()


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register a method, a label rule and a provider that look at the feature map, for a test."""
    for registry in (MIXES, LABEL_RULES, SALIENCY):
        list(registry)  # discover what there is before the copy
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    needs = {"requires": ("features",)}
    MIXES.register("looking_mix", MixInfo(guided=True, **needs))(MIXES["cutmix"])
    LABEL_RULES.register("looking_rule", LabelInfo(**needs))(LABEL_RULES["area"])
    SALIENCY.register("looking_maps", SaliencyInfo(passes=(1, 0), **needs))(SALIENCY["gradient"])
