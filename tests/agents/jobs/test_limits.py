"""What the machine has no memory for is refused before any of it is taken."""

from __future__ import annotations

import logging

import pytest

from automix.agents.config.compose import load_settings
from automix.agents.jobs import limits
from automix.agents.jobs.check import check
from automix.agents.parallel import machine
from automix.core.errors import ResourceError
from tests.agents import tiny_run
from tests.cases import each

DQN = ("agent=dqn", "env.actions.space=flat")
TOO_MUCH = [
    ("compare.resamples=1000000000000",),
    ("compare.seeds=1000000000",),
    ("compare.draws=1000000000",),
    ("compare.validation_draws=1000000000",),
    ("workers=1000000",),
    ("trainer.epochs=1000000000000",),
    ("agent.groups=1000000000",),
    ("agent.group_size=1000000000",),
    ("agent.net_arch=[300000,300000]",),
    ("agent.net_arch=[1000000000000]",),
    ("agent.net_arch=[8,1000000,1000000,8]",),
    ("agent.buffer_size=1000000000000", *DQN),
    ("agent.n_quantiles=1000000000000", "agent=qr_dqn", "env.actions.space=flat"),
    ("agent.lstm_hidden_size=10000000", "agent=recurrent_ppo"),
]


@each("words", TOO_MUCH)
def test_a_setting_that_asks_for_too_much_is_named_with_what_is_free(words, monkeypatch):
    monkeypatch.setattr(limits, "free_memory", lambda: 24 * 10**9)
    settings = load_settings([*words, "agent.total_timesteps=1000000000000000"])
    key = words[0].partition("=")[0]
    with pytest.raises(
        ResourceError, match=rf"^{key} is .* GB of memory or more, 24.0 are"
    ) as error:
        check(settings, learns=True)
    assert error.value.exit_code == 4
    assert key in error.value.hint


def test_every_experiment_fits_into_little(monkeypatch):
    monkeypatch.setattr(limits, "free_memory", lambda: 10**9)
    for words in ((), DQN, ("experiment=digits_full",), ("experiment=cifar100_rmix",)):
        limits.check_memory(load_settings(words), learns=True)


def test_threads_are_no_more_than_cores_and_a_warning_says_so(monkeypatch, caplog):
    monkeypatch.setattr(machine, "usable_cores", lambda: 1)
    log = logging.getLogger("automix")
    monkeypatch.setattr(log, "propagate", True)
    settings = tiny_run.settings("threads=3000")
    assert (
        check(settings, learns=True)[0].threads == 3000
    )  # as it was asked for, wherever it goes on
    assert "threads is 3000, this machine uses its 1 cores" in caplog.text
    caplog.clear()
    check(tiny_run.settings(), learns=True)
    assert "threads" not in caplog.text
