"""A stable-baselines3 ``VecEnv`` over groups of episodes, spread over workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn

from agents.workers import State, Worker
from automix.seeding import derived_seed
from envs.mix_env import MixVectorEnv

MakeBlock = Callable[[], MixVectorEnv]


class GroupVecEnv(VecEnv):
    """Blocks of groups side by side; environment ``b * n + e`` is environment e of block b.

    Which worker holds a block changes speed only: each group's episode is drawn from the seed, the
    group's number and the episode's. That is why blocks can be dealt out anew for every episode, by
    what their tasks will cost.

    Args:
        make_block: Builds one block, which must not reset itself; called in the workers, so
            importable by name (or a ``functools.partial`` of such).
        blocks: How many.
        workers: Hold the blocks.
        seed: Root seed of all episodes.
    """

    def __init__(
        self, make_block: MakeBlock, blocks: int, workers: Sequence[Worker], seed: int
    ) -> None:
        self._workers, self._seed, self._blocks = list(workers)[:blocks], seed, blocks
        self._episode = 0
        self._attributes: list[dict[str, Any]] = [{} for _ in range(blocks)]
        self._held = dealt([1] * blocks, len(self._workers))
        for worker, held in zip(self._workers, self._held, strict=True):
            worker.submit(_prepare, make_block, held)
        self._size, self._group_size, *of_one = self._results()[0]
        super().__init__(self._size * blocks, *of_one)

    def reset(self) -> np.ndarray:
        """Start a new episode in every block."""
        observations = self._start()
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return observations

    def _start(self) -> np.ndarray:
        """Deal the blocks out and start an episode in each."""
        seeds = self._episode_seeds()
        self._episode += 1
        self._workers[0].submit(_costs, seeds)
        self._held = dealt(self._workers[0].result(), len(self._workers))
        for worker, held in zip(self._workers, self._held, strict=True):
            own = [(seeds[block], self._attributes[block]) for block in held]
            worker.submit(_reset, held, *map(list, zip(*own, strict=True)))
        return np.concatenate(self._in_order(self._results()))

    def _episode_seeds(self) -> list[list[int]]:
        """Return the seeds of the next episode, one an environment, block by block."""
        groups = self._size * self._blocks // self._group_size
        by_group = [derived_seed(self._seed, "group", g, self._episode) for g in range(groups)]
        seeds = [seed for seed in by_group for _ in range(self._group_size)]
        return [seeds[start : start + self._size] for start in range(0, len(seeds), self._size)]

    def step_async(self, actions: np.ndarray) -> None:
        """Start one epoch in every block."""
        by_block = np.asarray(actions).reshape(self._blocks, self._size, -1)
        if self.action_space.shape == ():
            by_block = by_block[..., 0]
        for worker, held in zip(self._workers, self._held, strict=True):
            worker.submit(_step, held, [by_block[block] for block in held])

    def step_wait(self) -> VecEnvStepReturn:
        """Wait for the epoch to end everywhere; after the last of an episode, start the next."""
        turns = self._in_order(self._results())
        observations, rewards, ended, infos = zip(*turns, strict=True)
        flat_infos = [info for block in infos for info in block]
        shown, dones = np.concatenate(observations), np.concatenate(ended)
        if dones.all():
            for info, last in zip(flat_infos, shown, strict=True):
                info["terminal_observation"] = last
            shown = self._start()
        return shown, np.concatenate(rewards).astype(np.float32), dones, flat_infos

    def _results(self) -> list[Any]:
        return [worker.result() for worker in self._workers]

    def _in_order(self, by_worker: Sequence[Sequence[Any]]) -> list[Any]:
        """Put what the workers returned, one entry a held block, into the order of the blocks."""
        ordered: list[Any] = [None] * self._blocks
        for held, parts in zip(self._held, by_worker, strict=True):
            for block, part in zip(held, parts, strict=True):
                ordered[block] = part
        return ordered

    def close(self) -> None:
        """Forget the blocks; the workers belong to the caller."""
        for worker in self._workers:
            worker.submit(_forget)
            worker.result()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of the block that each environment is in."""
        if attr_name == "render_mode":
            return [None for _ in self._get_indices(indices)]
        return self._ask(_get, indices, attr_name)

    def has_attr(self, attr_name: str) -> bool:
        """Return whether the blocks have an attribute, which need not fit through a pipe."""
        return all(self._ask(_has, None, attr_name))

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the block that each environment is in."""
        for index in self._get_indices(indices):
            self._attributes[index // self._size][attr_name] = value
        self._ask(_set, indices, attr_name, value)

    def env_method(
        self,
        method_name: str,
        *method_args: Any,
        indices: VecEnvIndices = None,
        **method_kwargs: Any,
    ) -> list[Any]:
        """Call a method of the block that each environment is in; masks come one by one."""
        answers = self._ask(_call, indices, method_name, method_args, method_kwargs)
        if method_name != "action_masks":
            return answers
        places = [index % self._size for index in self._get_indices(indices)]
        return [answer[place] for answer, place in zip(answers, places, strict=True)]

    def env_is_wrapped(self, wrapper_class: type, indices: VecEnvIndices = None) -> list[bool]:
        """No wrapper goes around an environment of a block."""
        return [False for _ in self._get_indices(indices)]

    def seed(self, seed: int | None = None) -> list[int | None]:
        """Refuse: the seed is part of the construction.

        SB3 calls this with its own seed when an agent is built; the episodes have theirs.
        """
        return [None] * self.num_envs

    def _ask(self, function: Callable[..., Any], indices: VecEnvIndices, *args: Any) -> list[Any]:
        blocks = [index // self._size for index in self._get_indices(indices)]
        answers = {}
        for block in sorted(set(blocks)):
            worker = next(w for w, held in enumerate(self._held) if block in held)
            self._workers[worker].submit(function, block, *args)
            answers[block] = self._workers[worker].result()
        return [answers[block] for block in blocks]


def dealt(costs: Sequence[float], hands: int) -> list[list[int]]:
    """Deal numbered items out so that the hands' sums of costs come close to each other.

    The dearest first, each to the hand that has least so far; every hand gets one if there are
    enough. Equal costs go round.
    """
    order = sorted(range(len(costs)), key=lambda item: (-costs[item], item))
    held: list[list[int]] = [[] for _ in range(hands)]
    for item in order:
        least = min(held, key=lambda hand: (bool(hand), sum(costs[i] for i in hand), len(hand)))
        least.append(item)
    return [sorted(hand) for hand in held]


def _prepare(
    state: State, make_block: MakeBlock, blocks: Sequence[int]
) -> tuple[int, int, Any, Any]:
    state["make"], state["blocks"] = make_block, {block: make_block() for block in blocks}
    first = state["blocks"][blocks[0]]
    spaces = first.single_observation_space, first.single_action_space
    return first.num_envs, first.group_size, *spaces


def _costs(state: State, seeds: Sequence[list[int]]) -> list[int]:
    """Return what the episodes of some blocks' seeds cost, in training images."""
    any_block = next(iter(state["blocks"].values()))
    return [any_block.drawn_images(own) for own in seeds]


def _reset(
    state: State,
    blocks: Sequence[int],
    seeds: Sequence[list[int]],
    attributes: Sequence[dict[str, Any]],
) -> list[np.ndarray]:
    """Start an episode of each of the blocks that this worker holds from now on."""
    # Those that another worker holds now are dropped, and with them their classifiers.
    state["blocks"] = {block: state["blocks"].get(block) or state["make"]() for block in blocks}
    observations = []
    for block, seed, values in zip(state["blocks"].values(), seeds, attributes, strict=True):
        for name, value in values.items():
            setattr(block, name, value)
        observations.append(block.reset(seed=seed)[0])
    return observations


def _step(state: State, blocks: Sequence[int], actions: Sequence[np.ndarray]) -> list[Any]:
    return [_step_block(state["blocks"][b], a) for b, a in zip(blocks, actions, strict=True)]


def _step_block(
    block: MixVectorEnv, actions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """Step one block and turn gymnasium's dict of arrays into SB3's list of dicts."""
    kinds = block.task_kinds
    observations, rewards, ended, truncated, infos = block.step(actions)
    metrics = infos["metrics"]
    passes = metrics["forward_passes"] + metrics["backward_passes"]
    told = [
        {
            "mix": infos["mix"][env],
            "diverged": bool(infos["diverged"][env]),
            "val_accuracy": float(metrics["val_accuracy"][env]),
            "passes": int(passes[env]),
            "task": kinds[env],
        }
        for env in range(block.num_envs)
    ]
    for env in np.flatnonzero(truncated):
        told[env]["TimeLimit.truncated"] = True
        told[env]["terminal_observation"] = infos["final_obs"][env]
    return observations, rewards, ended | truncated, told


def _get(state: State, block: int, name: str) -> Any:
    return getattr(state["blocks"][block], name)


def _has(state: State, block: int, name: str) -> bool:
    return hasattr(state["blocks"][block], name)


def _set(state: State, block: int, name: str, value: Any) -> None:
    setattr(state["blocks"][block], name, value)


def _call(
    state: State, block: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    return getattr(state["blocks"][block], name)(*args, **kwargs)


def _forget(state: State) -> None:
    state.clear()
