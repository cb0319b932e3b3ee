"""One signal ends the epoch, a second one the run; elsewhere the first one does."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from automix.agents.runs.stopping import stopping
from tests.cases import each

MEANS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: SystemExit}


@pytest.fixture(autouse=True)
def heard():
    """Tests in the background may have been told to ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def send(number):
    os.kill(os.getpid(), number)


@each("number", MEANS)
def test_the_first_signal_is_noted_and_the_second_stops_at_once(number):
    with stopping() as asked, asked.patiently():
        assert asked() == 0
        send(number)
        assert asked() == number
        with pytest.raises(MEANS[number]):
            send(number)


@each("number", MEANS)
def test_where_nobody_asks_a_signal_stops_at_once(number):
    with stopping(), pytest.raises(MEANS[number]) as raised:
        send(number)
    if number == signal.SIGTERM:
        assert raised.value.code == 143


def test_what_was_there_before_is_there_afterwards():
    before = [signal.getsignal(number) for number in MEANS]
    with stopping():
        assert [signal.getsignal(number) for number in MEANS] != before
    assert [signal.getsignal(number) for number in MEANS] == before


def test_who_ignores_ctrl_c_goes_on_ignoring_it():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stopping() as asked, asked.patiently():
        send(signal.SIGINT)
        assert asked() == 0


def test_another_thread_hears_nothing_and_changes_nothing():
    before, seen = [signal.getsignal(number) for number in MEANS], []

    def inside():
        with stopping() as asked:
            seen.extend([asked(), [signal.getsignal(number) for number in MEANS]])

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [0, before]
