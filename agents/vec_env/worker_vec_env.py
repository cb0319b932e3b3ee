"""A stable-baselines3 ``VecEnv`` whose environments live in workers of any kind."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.vec_env.base_vec_env import (
    VecEnv,
    VecEnvIndices,
    VecEnvObs,
    VecEnvStepReturn,
)

from automix.agents.parallel.replaying import Call, ReplayingWorker
from automix.agents.parallel.worker import Worker, WorkerLost
from automix.agents.runs.checkpoints import SaveThrottle
from automix.agents.vec_env import env_host
from automix.agents.vec_env.env_host import EnvError, MakeEnv, Transition
from automix.core.errors import AutomixError, ConfigError
from automix.core.seeding import derived_seed

CLOSE_S = 10.0
"""Seconds that environments have to end a step and close themselves."""

log = logging.getLogger("automix")


@dataclass
class Part:
    """The environments of one worker.

    Attributes:
        worker: Holds them.
        own: Their numbers among all.
        why_not: Why their state cannot be kept; empty as long as nothing speaks against it.
        started: Seeds and options of their last ``reset``.
        restarts: Of the worker, as far as that has been dealt with.
    """

    worker: ReplayingWorker
    own: slice
    why_not: str
    started: tuple[Sequence[int | None], Sequence[dict[str, Any]]] | None = None
    restarts: int = 0


class WorkerVecEnv(VecEnv):
    """Environments in workers, dealt out in the order of their functions.

    When a worker dies, its environments are built anew. If all of them can be kept
    (``env_state.py``), they take up the last checkpoint, and what was asked since is done again. If
    not, attributes that were set are set again, and the unfinished episodes end: truncated, with
    reward 0.

    Args:
        env_fns: Each builds a ``gymnasium.Env``.
        workers: Hold the environments; they belong to the caller.
        checkpoint_share: The most of the time that it may take to keep the environments' states, in
            [0, 1]; 0 keeps none, so that a worker that dies costs its unfinished episodes.

    Raises:
        ConfigError: If a function builds something else, or an argument cannot be.
        EnvError: If a function raises an error.
    """

    def __init__(
        self, env_fns: Sequence[MakeEnv], workers: Sequence[Worker], checkpoint_share: float = 0.005
    ) -> None:
        check_arguments(env_fns, checkpoint_share)
        self.waiting = self.closed = False
        self._env_fns = list(env_fns)
        self._attributes: list[dict[str, Any]] = [{} for _ in env_fns]
        self._last: list[Any] = [None for _ in env_fns]
        """The last observations."""
        self._early: list[Transition] | None = None
        self._throttle = SaveThrottle(checkpoint_share)
        why_not = "" if checkpoint_share else "checkpoint_share is 0"
        self._parts = [
            Part(ReplayingWorker(worker), own, why_not)
            for worker, own in zip(workers, shares(len(env_fns), len(workers)), strict=False)
        ]
        try:
            for part in self._parts:
                build, arguments = self._built(part)
                part.worker.submit(build, *arguments)
            super().__init__(len(env_fns), *self._results(self._parts)[0])
        except BaseException:
            self.close()
            raise

    def reset(self) -> VecEnvObs:
        """Start an episode everywhere, with the seeds and options that were set since the last."""
        self._settle()
        self._early = None
        for part in self._parts:
            part.started = self._seeds[part.own], deepcopy(self._options[part.own])
            self._submit(part, env_host.reset, *part.started, changes=True)
        starts = [start for own in self._results(self._parts) for start in own]
        self._last, infos = map(list, zip(*starts, strict=True))
        self.reset_infos = deepcopy(infos)
        # Seeds and options are used once.
        self._reset_seeds()
        self._reset_options()
        for part in self._parts:
            self._begin_lossy(part)
        self._checkpoint()
        return stacked(self._last, self.observation_space)

    def step_async(self, actions: np.ndarray) -> None:
        """Start a step everywhere.

        Raises:
            ConfigError: If there are more or fewer actions than environments.
        """
        self._settle()
        if len(actions) != self.num_envs:
            raise ConfigError(f"got {len(actions)} actions, wanted {self.num_envs}")
        for part in self._parts:
            self._submit(part, env_host.step, actions[part.own], changes=True)
        self.waiting = True

    def step_wait(self) -> VecEnvStepReturn:
        """Wait for the step; where an episode ended, the next one has begun."""
        self._settle()
        if self._early is None:
            raise AutomixError("step_wait was called without step_async")
        transitions, self._early = self._early, None
        infos = []
        for number, (_, _, _, info, next_info) in enumerate(transitions):
            if info is None:
                last = self._last[number]
                info = {"TimeLimit.truncated": True, "terminal_observation": last}
            infos.append(deepcopy(info))
            if next_info is not None:
                self.reset_infos[number] = deepcopy(next_info)
        observations, rewards, dones, *_ = zip(*transitions, strict=True)
        self._last = list(observations)
        self._checkpoint()
        return (
            stacked(self._last, self.observation_space),
            np.array(rewards, dtype=np.float32),
            np.array(dones),
            infos,
        )

    def _settle(self) -> None:
        """Wait for a step that is under way, so that other things can be asked.

        Raises:
            AutomixError: If the environments are closed; a worker would come to life again.
        """
        if self.closed:
            raise AutomixError("the environments are closed")
        if self.waiting:
            self.waiting = False
            self._early = [one for own in self._results(self._parts) for one in own]

    # Deaths -------------------------------------------------------------------------------------

    @property
    def restarts(self) -> int:
        """How often a worker was restarted."""
        return sum(part.worker.restarts for part in self._parts)

    def _built(self, part: Part) -> Call:
        """Return the call that builds a worker's environments and sets their attributes."""
        own = part.own
        attributes = deepcopy(self._attributes[own])
        return env_host.build, (own.start, self._env_fns[own], attributes)

    def _checkpoint(self) -> None:
        """Keep the states of the environments, if it is time for it."""
        parts = [part for part in self._parts if not part.why_not]
        if not parts or not self._throttle.due():
            return
        start, restarts = time.monotonic(), self.restarts
        for part in parts:
            self._submit(part, env_host.state_dict)
        for part, (states, part.why_not) in zip(parts, self._results(parts), strict=True):
            part.worker.begin(self._built(part), (env_host.load_state_dict, (states,)))
            self._begin_lossy(part)
        # A restart on the way is not what a checkpoint costs.
        self._throttle.took(time.monotonic() - start if self.restarts == restarts else None)

    def _begin_lossy(self, part: Part) -> None:
        """Where states cannot be kept, let a restart begin new episodes, with seeds of their own.

        They come from those of the last ``reset`` but do not repeat it.
        """
        if not part.why_not:
            return
        calls = [self._built(part)]
        if part.started:
            seeds, options = part.started
            number = part.worker.restarts + 1
            own = [s if s is None else derived_seed(s, "restart", number) for s in seeds]
            calls.append((env_host.start_over, (own, options)))
        part.worker.begin(*calls)

    def _notice_death(self, part: Part) -> None:
        if part.worker.restarts == part.restarts:
            return
        part.restarts = part.worker.restarts
        if part.why_not and part.started:
            log.warning(
                "%s: the episodes of environments %d-%d end here, truncated: %s",
                *(part.worker.name, part.own.start, part.own.stop - 1, part.why_not),
            )
            self._begin_lossy(part)

    # Talking to the workers ---------------------------------------------------------------------

    def _submit(
        self, part: Part, function: Callable[..., Any], *args: Any, changes: bool = False
    ) -> None:
        """Start a function of ``env_host``; one that changes something is done again if need be."""
        keep = changes and not part.why_not
        part.worker.submit(function, *deepcopy(args), keep=keep)

    def _results(self, parts: Sequence[Part]) -> list[Any]:
        """Wait for some workers, and then raise the first error there was."""
        answers, errors = [], []
        for part in parts:
            try:
                answers.append(part.worker.result())
            except WorkerLost:
                self.close()
                raise
            except AutomixError as error:
                if isinstance(error, EnvError):
                    log.debug("%s: %s", part.worker.name, error.trace)
                errors.append(error)
            self._notice_death(part)
        if errors:
            raise errors[0]
        return answers

    def _ask(
        self,
        function: Callable[..., Any],
        indices: VecEnvIndices,
        *args: Any,
        changes: bool = False,
    ) -> list[Any]:
        """Ask some environments; one that is named twice is asked twice."""
        self._settle()
        everyone = range(self.num_envs)
        numbers = [everyone[index] for index in self._get_indices(indices)]
        asked, positions = [], []
        for part in self._parts:
            own = everyone[part.own]
            mine = [position for position, number in enumerate(numbers) if number in own]
            if mine:
                places = [own.index(numbers[position]) for position in mine]
                self._submit(part, function, places, *args, changes=changes)
                asked.append(part)
                positions += mine
        answers = [deepcopy(answer) for own in self._results(asked) for answer in own]
        by_position = dict(zip(positions, answers, strict=True))
        return [by_position[position] for position in range(len(numbers))]

    # What stable-baselines3 asks ----------------------------------------------------------------

    def close(self) -> None:
        """Close the environments, after a step that is under way; a second time does nothing.

        What takes too long, because it hangs, is left as it is: it ends with its worker.
        """
        if self.closed:
            return
        self.closed, self.waiting = True, False
        until = time.monotonic() + CLOSE_S
        for part in self._parts:
            part.worker.close(env_host.close, until - time.monotonic())

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of environments, looked up through their wrappers."""
        return self._ask(env_host.get_attribute, indices, attr_name)

    def has_attr(self, attr_name: str) -> bool:
        """Return whether all have an attribute, which need not be one that can be sent."""
        return all(self._ask(env_host.has_attribute, None, attr_name))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of environments; it survives a restart."""
        self._ask(env_host.set_attribute, indices, attr_name, value, changes=True)
        for index in self._get_indices(indices):
            self._attributes[index][attr_name] = deepcopy(value)
        for part in self._parts:
            self._begin_lossy(part)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method of environments."""
        args = method_name, method_args, method_kwargs
        return self._ask(env_host.call_method, indices, *args, changes=True)

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """Return which environments have a wrapper of a class."""
        return self._ask(env_host.is_wrapped_in, indices, wrapper_class)

    def get_images(self) -> Sequence[np.ndarray | None]:
        """Return a picture of each environment, or None if they do not render to arrays."""
        if self.render_mode != "rgb_array":
            warnings.warn(
                f"render_mode is {self.render_mode}, wanted rgb_array: no images", stacklevel=2
            )
            return [None] * self.num_envs
        self._settle()
        for part in self._parts:
            self._submit(part, env_host.render)
        return [image for own in self._results(self._parts) for image in own]


def check_arguments(env_fns: Sequence[MakeEnv], checkpoint_share: float) -> None:
    """Refuse what no environment can be built with.

    Raises:
        ConfigError: If there is no function, or the share is not from 0 to 1.
    """
    if not env_fns:
        raise ConfigError("env_fns is empty, wanted one function or more")
    if not 0 <= checkpoint_share <= 1:
        raise ConfigError(f"checkpoint_share is {checkpoint_share}, wanted a number from 0 to 1")


def shares(items: int, hands: int) -> list[slice]:
    """Deal numbered items out in their order, as equally as can be; no hand stays empty."""
    hands = min(items, hands)
    ends = [items * hand // hands for hand in range(hands + 1)]
    return [slice(*pair) for pair in pairwise(ends)]


def stacked(observations: Sequence[Any], space: spaces.Space) -> Any:
    """Stack observations array by array, in the types that the space names.

    Args:
        observations: One an environment.
        space: Of one observation; a ``Dict`` or ``Tuple`` is followed inside.
    """
    if isinstance(space, spaces.Dict):
        return {
            name: stacked([one[name] for one in observations], inner)
            for name, inner in space.spaces.items()
        }
    if isinstance(space, spaces.Tuple):
        return tuple(
            stacked([one[place] for one in observations], inner)
            for place, inner in enumerate(space.spaces)
        )
    return np.stack(observations, dtype=space.dtype, casting="unsafe")
