"""The environments of one worker, and what it takes to have them again when it dies."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import numpy as np

from automix.agents.parallel.worker import RestartableWorker, Worker, WorkerDied, WorkerError
from automix.agents.vec_env import ray_hosting as hosting
from automix.agents.vec_env.ray_env_state import Files
from automix.agents.vec_env.ray_hosted import Stepped, row
from automix.agents.vec_env.ray_hosting import EnvError, MakeEnv
from automix.core.errors import AutomixError, ConfigError
from automix.core.seeding import derived_seed

log = logging.getLogger("automix")

Call = tuple[Callable[..., Any], tuple[Any, ...]]
_CHANGES = (hosting.reset, hosting.step, hosting.set_to, hosting.call)
"""What may change an environment, and is done again after the checkpoint is restored."""


class Block:
    """Asks one worker, and has it restarted when it dies.

    If all its environments can be kept, they are restored from the last checkpoint and what was
    asked since is done again. If not, they are built anew with the attributes that were set, and
    the unfinished episodes end: truncated, with reward 0.

    Args:
        worker: Holds the environments.
        env_fns: Build them.
        first_function: Number of the first function in the whole.
        keeps: Whether to try to keep them.
    """

    def __init__(
        self, worker: Worker, env_fns: Sequence[MakeEnv], first_function: int, keeps: bool
    ) -> None:
        self.worker = worker
        self._built_from = worker.name, first_function, list(env_fns)
        self._files: Files = {}
        self.first = self.size = 0
        self.gone = False
        """Whether the worker died too often."""
        self._pending: Call = (hosting.close, ())
        self._busy = False
        self._why_not = "" if keeps else "checkpoint_share is 0"
        self._states: Sequence[bytes] = ()
        self._since: list[Call] = []
        self._given: list[dict[str, Any]] = []
        self._given_then: list[dict[str, Any]] = []
        self._started: tuple[list[int | None], list[dict[str, Any]]] | None = None
        self._shown: Any = None
        self._lost: tuple[Any, list[dict[str, Any]]] | None = None

    @property
    def can_be_kept(self) -> bool:
        """Whether nothing speaks against it, as far as is known."""
        return not self._why_not

    @property
    def own(self) -> slice:
        """The numbers of its environments."""
        return slice(self.first, self.first + self.size)

    def build(self) -> None:
        """Start to build the environments; ``result`` then returns what ``prepare`` does.

        Raises:
            ConfigError: If a function cannot be sent to the worker.
        """
        try:
            self.submit(hosting.prepare, *self._built_from, self._files)
        except TypeError as error:
            why = " ".join(str(error.__cause__ or error).split())
            raise ConfigError(
                f"an env_fn cannot be sent to {self.worker.name}: {why}",
                "build what cannot be sent, such as a lock or an open file, inside the function",
            ) from None

    def number(self, first: int, sizes: Sequence[int]) -> None:
        """Start to tell the worker how its environments are called from now on."""
        self.first, self.size = first, sum(sizes)
        self._given = [{} for _ in range(self.size)]
        self._given_then = [{} for _ in range(self.size)]
        self.submit(hosting.number, first)

    def submit(self, function: Callable[..., Any], *args: Any) -> None:
        """Start a function of ``ray_hosting``."""
        if function in _CHANGES and self.can_be_kept:
            args = deepcopy(args)  # what is done again must be what was done
        self._pending = function, args
        if not (function is hosting.step and self._lost):
            self._send(function, *args)

    def result(self) -> Any:
        """Wait for the function, restart the worker if it dies, and return what was returned.

        Raises:
            EnvError: If an environment raised an error.
            WorkerError: If the worker died too often.
        """
        function, args = self._pending
        try:
            if function is hosting.step and self._lost:
                answer = self._cut_short()
            else:
                answer = self._answer()
        except WorkerDied:
            answer = self._again(function, args)
        self._note(function, args, answer)
        return answer

    def _send(self, function: Callable[..., Any], *args: Any) -> None:
        self.worker.submit(function, *args)
        self._busy = True

    def _answer(self) -> Any:
        try:
            answer = self.worker.result()
        except AutomixError as error:
            self._busy = False
            if isinstance(error, EnvError):
                log.debug("%s: %s", self.worker.name, error.trace)
            raise
        self._busy = False
        return answer

    def _ask(self, function: Callable[..., Any], *args: Any) -> Any:
        self._send(function, *args)
        return self._answer()

    def _again(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """Restart the worker until it lives long enough to answer."""
        while True:
            try:
                self.worker.restart()
            except WorkerError:
                self.gone = True
                raise
            try:
                self._rebuild()
                if function is hosting.step and self._lost:
                    return self._cut_short()
                return self._ask(function, *args)
            except WorkerDied:
                continue

    def _rebuild(self) -> None:
        self._ask(hosting.prepare, *self._built_from, self._files)
        self._ask(hosting.number, self.first)
        if self.can_be_kept:
            self._set(self._given_then)
            if self._states:
                self._ask(hosting.load_state_dict, self._states)
            for function, args in self._since:
                self._ask(function, *args)
        else:
            self._set(self._given)
            if self._started:
                self._lost = self._ask(hosting.reset, *self._fresh_start(*self._started))

    def _set(self, given: Sequence[dict[str, Any]]) -> None:
        for place, values in enumerate(given):
            for name, value in values.items():
                self._ask(hosting.set_to, [place], name, value)

    def _fresh_start(
        self, seeds: Sequence[int | None], options: list[dict[str, Any]]
    ) -> tuple[list[int | None], list[dict[str, Any]]]:
        """Return seeds that come from those of the last ``reset`` but do not repeat it."""
        log.warning(
            "%s: the episodes of environments %d-%d end here, truncated: %s",
            *(self.worker.name, self.first, self.first + self.size - 1, self._why_not),
        )
        times = self.worker.restarts
        return [s if s is None else derived_seed(s, "restart", times) for s in seeds], options

    def _cut_short(self) -> Stepped:
        """Return the step in which episodes ended because their worker was gone."""
        assert self._lost is not None
        (observations, reset_infos), self._lost = self._lost, None
        infos = [
            {"TimeLimit.truncated": True, "terminal_observation": row(self._shown, place)}
            for place in range(self.size)
        ]
        everyone = np.ones(self.size, dtype=bool)
        resets = dict(enumerate(reset_infos))
        return Stepped(observations, np.zeros(self.size, dtype=np.float32), everyone, infos, resets)

    def _note(self, function: Callable[..., Any], args: tuple[Any, ...], answer: Any) -> None:
        """Remember what it takes to come to where the environments are now."""
        if function in _CHANGES and self.can_be_kept:
            self._since.append((function, args))
        if function is hosting.prepare:
            self._files = answer[2]
        elif function is hosting.step:
            self._shown = answer.observations
        elif function is hosting.reset:
            self._shown, self._lost, self._started = answer[0], None, (args[0], args[1])
        elif function is hosting.set_to:
            places, name, value = args
            for place in places:
                self._given[place][name] = value
        elif function is hosting.keep:
            self._why_not, self._since = answer.why_not, []
            self._states, self._given_then = answer.states, [dict(g) for g in self._given]
            self._files |= answer.files

    def close(self, until: float) -> None:
        """Close the environments; what is under way, and this, may take until a time."""
        try:
            if self._busy and self._is_done(until):
                self._answer()
            if not self._busy:
                self._send(hosting.close)
                if self._is_done(until):
                    self._answer()
        except AutomixError as error:
            log.debug("%s, while it was closed: %s", self.worker.name, error)

    def _is_done(self, until: float) -> bool:
        worker, left = self.worker, max(until - time.monotonic(), 0)
        return not isinstance(worker, RestartableWorker) or bool(worker.wait_any([worker], left))
