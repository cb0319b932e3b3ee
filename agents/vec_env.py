"""A stable-baselines3 ``VecEnv`` over groups of episodes, spread over workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn

from agents.workers import State, Worker
from automix.seeding import derived_seed
from envs.mix_env import MixVectorEnv

MakeGroup = Callable[[], MixVectorEnv]


class GroupVecEnv(VecEnv):
    """Groups side by side; environment ``g * group_size + m`` is member m of group g.

    Which worker holds a group changes speed only: a group's tasks and trainings are drawn from
    the seed and the group's number.

    Args:
        make_group: Builds one group; called in the workers, so importable by name (or a
            ``functools.partial`` of such).
        groups: How many.
        workers: Hold the groups, dealt out in turn.
        seed: Root seed of all episodes.
    """

    def __init__(
        self, make_group: MakeGroup, groups: int, workers: Sequence[Worker], seed: int
    ) -> None:
        self._workers = list(workers)[:groups]
        self._held = [list(range(w, groups, len(self._workers))) for w in range(len(self._workers))]
        seeds = [derived_seed(seed, "group", group) for group in range(groups)]
        for worker, held in zip(self._workers, self._held, strict=True):
            worker.submit(_build, make_group, [seeds[group] for group in held])
        sizes, observation_space, action_space = self._results()[0]
        self.group_size, self._groups = int(sizes), groups
        super().__init__(self.group_size * groups, observation_space, action_space)
        self._actions: np.ndarray = np.zeros(0)

    def reset(self) -> np.ndarray:
        """Start a new episode in every group."""
        for worker in self._workers:
            worker.submit(_reset)
        parts = self._in_order(self._results())
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return np.concatenate(parts)

    def step_async(self, actions: np.ndarray) -> None:
        """Start one epoch in every group."""
        by_group = np.asarray(actions).reshape(self._groups, self.group_size, -1)
        if self.action_space.shape == ():
            by_group = by_group[..., 0]
        for worker, held in zip(self._workers, self._held, strict=True):
            worker.submit(_step, [by_group[group] for group in held])

    def step_wait(self) -> VecEnvStepReturn:
        """Wait for the epoch to end everywhere."""
        turns = self._in_order(self._results())
        observations, rewards, dones, infos = zip(*turns, strict=True)
        flat_infos = [info for group in infos for info in group]
        return (
            np.concatenate(observations),
            np.concatenate(rewards).astype(np.float32),
            np.concatenate(dones),
            flat_infos,
        )

    def _results(self) -> list[Any]:
        return [worker.result() for worker in self._workers]

    def _in_order(self, by_worker: Sequence[Sequence[Any]]) -> list[Any]:
        """Put what the workers returned, one entry a held group, into the order of the groups."""
        ordered: list[Any] = [None] * self._groups
        for held, parts in zip(self._held, by_worker, strict=True):
            for group, part in zip(held, parts, strict=True):
                ordered[group] = part
        return ordered

    def close(self) -> None:
        """Forget the groups; the workers belong to the caller."""
        for worker in self._workers:
            worker.submit(_forget)
            worker.result()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of the group that each environment is in."""
        if attr_name == "render_mode":
            return [None for _ in self._get_indices(indices)]
        return self._ask(_get, indices, attr_name)

    def has_attr(self, attr_name: str) -> bool:
        """Return whether the groups have an attribute, which need not fit through a pipe."""
        return all(self._ask(_has, None, attr_name))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the group that each environment is in."""
        self._ask(_set, indices, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method of the group that each environment is in; masks come per member."""
        answers = self._ask(_call, indices, method_name, method_args, method_kwargs)
        if method_name != "action_masks":
            return answers
        members = [index % self.group_size for index in self._get_indices(indices)]
        return [answer[member] for answer, member in zip(answers, members, strict=True)]

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """No wrapper goes around a member of a group."""
        return [False for _ in self._get_indices(indices)]

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Refuse: the seed is part of the construction.

        SB3 calls this with its own seed when an agent is built; the episodes have theirs.
        """
        return [None] * self.num_envs

    def _ask(self, function: Callable[..., Any], indices: VecEnvIndices, *args: Any) -> list[Any]:
        groups = [index // self.group_size for index in self._get_indices(indices)]
        answers = {}
        for group in sorted(set(groups)):
            worker = group % len(self._workers)
            self._workers[worker].submit(function, self._held[worker].index(group), *args)
            answers[group] = self._workers[worker].result()
        return [answers[group] for group in groups]


def _build(state: State, make_group: MakeGroup, seeds: Sequence[int]) -> tuple[int, Any, Any]:
    state["groups"] = [make_group() for _ in seeds]
    state["seeds"] = list(seeds)
    first = state["groups"][0]
    return first.num_envs, first.single_observation_space, first.single_action_space


def _reset(state: State) -> list[np.ndarray]:
    """Start new episodes; the first time, from the groups' own seeds."""
    seeds = state.pop("seeds", [None] * len(state["groups"]))
    return [group.reset(seed=seed)[0] for group, seed in zip(state["groups"], seeds, strict=True)]


def _step(state: State, actions: Sequence[np.ndarray]) -> list[tuple[Any, ...]]:
    return [_step_group(g, a) for g, a in zip(state["groups"], actions, strict=True)]


def _step_group(
    group: MixVectorEnv, actions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """Step one group and turn gymnasium's dict of arrays into SB3's list of dicts."""
    kind = group.task_kind
    observations, rewards, ended, _, infos = group.step(actions)
    members = [
        {
            "mix": infos["mix"][m],
            "diverged": bool(infos["diverged"][m]),
            "val_accuracy": float(infos["metrics"]["val_accuracy"][m]),
            "passes": int(
                infos["metrics"]["forward_passes"][m] + infos["metrics"]["backward_passes"][m]
            ),
            "task": kind,
        }
        for m in range(group.num_envs)
    ]
    if ended.all():
        for m, info in enumerate(members):
            info["terminal_observation"] = infos["final_obs"][m]
    return observations, rewards, ended, members


def _get(state: State, group: int, name: str) -> Any:
    return getattr(state["groups"][group], name)


def _has(state: State, group: int, name: str) -> bool:
    return hasattr(state["groups"][group], name)


def _set(state: State, group: int, name: str, value: Any) -> None:
    setattr(state["groups"][group], name, value)


def _call(
    state: State, group: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    return getattr(state["groups"][group], name)(*args, **kwargs)


def _forget(state: State) -> None:
    state.clear()
