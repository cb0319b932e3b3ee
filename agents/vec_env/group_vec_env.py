"""A stable-baselines3 ``VecEnv`` over groups of episodes, spread over workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from gymnasium.vector.utils import batch_space
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvIndices, VecEnvStepReturn

from automix.agents.parallel.replaying import ReplayingWorker
from automix.agents.parallel.worker import State, Worker
from automix.core.errors import ConfigError, DataError
from automix.core.seeding import derived_seed
from automix.core.snapshots import from_bytes, to_bytes
from automix.envs.codec import checked
from automix.envs.mix_env import MixVectorEnv

MakeBlock = Callable[[], MixVectorEnv]


class GroupVecEnv(VecEnv):
    """Blocks of groups side by side; environment ``b * n + e`` is environment e of block b.

    Which worker holds a block changes speed only: each group's episode is drawn from the seed, the
    group's number and the episode's. That is why blocks can be dealt out anew for every episode, by
    what their tasks will cost. A worker that dies is restarted and replays its blocks up to where
    they were, from the start of the episode or from the last ``state_dict``: what comes back is bit
    by bit what would have come without the death.

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
        self._workers = [ReplayingWorker(worker) for worker in workers[:blocks]]
        self._made = (_prepare, (make_block,))
        self._seed, self._blocks = seed, blocks
        self._episode = 0
        self._attributes: list[dict[str, Any]] = [{} for _ in range(blocks)]
        self._held = dealt([1] * blocks, len(self._workers))
        for worker in self._workers:
            worker.submit(_prepare, make_block)
        self._results()
        self._size, self._group_size, *of_one = self._of_first(_shape)
        super().__init__(self._size * blocks, *of_one)
        self._actions = batch_space(self.action_space, self.num_envs)

    def reset(self) -> np.ndarray:
        """Start a new episode in every block."""
        observations = np.concatenate(self._start())
        self.reset_infos = [{} for _ in range(self.num_envs)]
        return observations

    def _start(self) -> list[np.ndarray]:
        """Deal the blocks out and start an episode in each."""
        seeds = self._seeds_of(self._episode)
        self._episode += 1
        self._deal(seeds)
        return self._start_at(_reset, seeds)

    def _seeds_of(self, episode: int) -> list[list[int]]:
        """Return the seeds of an episode, one an environment, block by block."""
        groups = self._size * self._blocks // self._group_size
        by_group = [derived_seed(self._seed, "group", g, episode) for g in range(groups)]
        seeds = [seed for seed in by_group for _ in range(self._group_size)]
        return [seeds[start : start + self._size] for start in range(0, len(seeds), self._size)]

    def _deal(self, seeds: Sequence[list[int]]) -> None:
        """Decide which worker holds which blocks while they play these seeds."""
        for worker in self._workers:
            worker.begin(self._made)
        self._held = dealt(self._of_first(_costs, seeds), len(self._workers))

    def _start_at(self, start: Callable[..., Any], origins: Sequence[Any]) -> list[Any]:
        """Start every block at its origin; this is as far as a restarted worker goes back."""
        for worker, held in zip(self._workers, self._held, strict=True):
            own = [(block, origins[block], dict(self._attributes[block])) for block in held]
            worker.begin(self._made)
            worker.submit(start, own)
        return self._in_order(self._results())

    def state_dict(self) -> dict[str, Any]:
        """Return all that the next step depends on, as plain data for ``to_bytes``.

        From now on a worker that dies is brought back from here. To be called between two steps;
        attributes that were set are not part of it.
        """
        if not self._episode:
            return {"episode": 0, "blocks": []}
        for worker, held in zip(self._workers, self._held, strict=True):
            worker.submit(_state_dicts, held, keep=False)
        # Copies, because torch warns of what Ray delivers, which cannot be written to.
        blocks = [np.array(block) for block in self._in_order(self._results())]
        for worker, held in zip(self._workers, self._held, strict=True):
            own = [(block, blocks[block], dict(self._attributes[block])) for block in held]
            worker.begin(self._made, (_load_state_dicts, (own,)))
        return {"episode": self._episode, "blocks": blocks}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state_dict`` was called; ``step`` comes next, without a reset.

        Raises:
            DataError: If it is the state of other blocks.
        """
        self._episode = state["episode"]
        if not self._episode:
            return
        if len(state["blocks"]) != self._blocks:
            raise DataError(
                f"the state holds {len(state['blocks'])} blocks, wanted {self._blocks}",
                "it was written with other agent.groups or agent.stacked_groups",
            )
        self._deal(self._seeds_of(self._episode - 1))
        self._start_at(_load_state_dicts, state["blocks"])
        self.reset_infos = [{} for _ in range(self.num_envs)]

    def step_async(self, actions: np.ndarray) -> None:
        """Start one epoch in every block.

        Raises:
            ConfigError: Before ``reset``, or for actions of another shape, type or size. It is told
                here, where no worker has begun.
        """
        if not self._episode:
            raise ConfigError("step was called before reset", "call env.reset() first")
        # A copy, which nobody changes before the workers may need it again.
        every = checked(np.array(actions), self._actions)
        by_block = every.reshape(self._blocks, self._size, *every.shape[1:])
        for worker, held in zip(self._workers, self._held, strict=True):
            worker.submit(_step, held, [by_block[block] for block in held])

    def step_wait(self) -> VecEnvStepReturn:
        """Wait for the epoch to end everywhere; after the last of an episode, start the next."""
        steps = self._in_order(self._results())
        observations, rewards, ended, infos = zip(*steps, strict=True)
        flat_infos = [info for block in infos for info in block]
        observation, dones = np.concatenate(observations), np.concatenate(ended)
        if dones.all():
            for info, last in zip(flat_infos, observation, strict=True):
                info["terminal_observation"] = last
            observation = np.concatenate(self._start())
        return observation, np.concatenate(rewards).astype(np.float32), dones, flat_infos

    def _results(self) -> list[Any]:
        return [worker.result() for worker in self._workers]

    def _of_first(self, function: Callable[..., Any], *args: Any) -> Any:
        """Ask a worker what any of them could tell, of a block that it holds."""
        self._workers[0].submit(function, self._held[0][0], *args, keep=False)
        return self._workers[0].result()

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
            worker.close()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Return an attribute of the block that each environment is in."""
        if attr_name == "render_mode":
            return [None for _ in self._get_indices(indices)]
        return self._ask(_get, indices, attr_name, keep=False)

    def has_attr(self, attr_name: str) -> bool:
        """Return whether the blocks have an attribute, which need not fit through a pipe."""
        return all(self._ask(_has, None, attr_name, keep=False))

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
        reads = method_name == "action_masks"
        answers = self._ask(
            *(_call, indices, method_name, method_args, method_kwargs), keep=not reads
        )
        if not reads:
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

    def _ask(
        self, function: Callable[..., Any], indices: VecEnvIndices, *args: Any, keep: bool = True
    ) -> list[Any]:
        """Call a function for each block that the environments are in."""
        blocks = [index // self._size for index in self._get_indices(indices)]
        answers = {}
        for block in sorted(set(blocks)):
            worker = next(w for w, held in enumerate(self._held) if block in held)
            self._workers[worker].submit(function, block, *args, keep=keep)
            answers[block] = self._workers[worker].result()
        return [answers[block] for block in blocks]


def dealt(costs: Sequence[float], workers: int) -> list[list[int]]:
    """Deal numbered items out to workers so that their sums of costs come close to each other.

    The most expensive first, each to the worker that has least so far; every worker gets one if
    there are enough. Equal costs go round. Graham, "Bounds on Multiprocessing Timing Anomalies"
    (1969).
    """
    order = sorted(range(len(costs)), key=lambda item: (-costs[item], item))
    held: list[list[int]] = [[] for _ in range(workers)]
    for item in order:
        least = min(held, key=lambda own: (bool(own), sum(costs[i] for i in own), len(own)))
        least.append(item)
    return [sorted(own) for own in held]


# In the workers ----------------------------------------------------------------------------------

Starts = Sequence[tuple[int, Any, dict[str, Any]]]
"""Blocks, where they start (seeds, or a state), and the attributes that were set."""


def _prepare(state: State, make_block: MakeBlock) -> None:
    state["make"], state["blocks"] = make_block, {}


def _block(state: State, block: int) -> MixVectorEnv:
    """Return a block, which is made when it is asked for the first time."""
    blocks = state["blocks"]
    if block not in blocks:
        blocks[block] = state["make"]()
    return blocks[block]


def _shape(state: State, block: int) -> tuple[int, int, Any, Any]:
    env = _block(state, block)
    return env.num_envs, env.group_size, env.single_observation_space, env.single_action_space


def _costs(state: State, block: int, seeds: Sequence[list[int]]) -> list[int]:
    """Return what the episodes of all blocks' seeds cost (``MixVectorEnv.drawn_work``)."""
    return [_block(state, block).drawn_work(own) for own in seeds]


def _reset(state: State, starts: Starts) -> list[np.ndarray]:
    """Start an episode of each of the blocks that this worker holds from now on."""
    return [block.reset(seed=seeds)[0] for block, seeds in _taken(state, starts)]


def _load_state_dicts(state: State, starts: Starts) -> list[None]:
    """Load the states of the blocks that this worker holds from now on."""
    for block, content in _taken(state, starts):
        block.load_state_dict(from_bytes(content.tobytes()))
    return [None for _ in starts]


def _taken(state: State, starts: Starts) -> Iterator[tuple[MixVectorEnv, Any]]:
    """Give the blocks their attributes; go through them, each with where it starts."""
    # Those that another worker holds now are dropped, and with them their classifiers.
    own = {block for block, *_ in starts}
    state["blocks"] = {block: env for block, env in state["blocks"].items() if block in own}
    for block, origin, attributes in starts:
        env = _block(state, block)
        for name, value in attributes.items():
            setattr(env, name, value)
        yield env, origin


def _state_dicts(state: State, blocks: Sequence[int]) -> list[np.ndarray]:
    """Return the states of blocks as arrays of bytes: nobody on the way looks into them."""
    taken = [to_bytes(_block(state, block).state_dict()) for block in blocks]
    return [np.frombuffer(bytearray(content), dtype=np.uint8) for content in taken]


def _step(state: State, blocks: Sequence[int], actions: Sequence[np.ndarray]) -> list[Any]:
    return [_step_block(_block(state, b), a) for b, a in zip(blocks, actions, strict=True)]


def _step_block(
    block: MixVectorEnv, actions: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
    """Step one block and turn gymnasium's dict of arrays into SB3's list of dicts."""
    kinds = block.task_kinds
    observations, rewards, ended, truncated, infos = block.step(actions)
    metrics = infos["metrics"]
    passes = metrics["forward_passes"] + metrics["backward_passes"]
    records = [
        {
            "mix": infos["mix"][env],
            "diverged": bool(infos["diverged"][env]),
            "val_accuracy": float(metrics["val_accuracy"][env]),
            "epochs": int(infos["epochs"][env]),
            "passes": int(passes[env]),
            "task": kinds[env],
        }
        for env in range(block.num_envs)
    ]
    for env in np.flatnonzero(truncated):
        records[env]["TimeLimit.truncated"] = True
        records[env]["terminal_observation"] = infos["final_obs"][env]
    return observations, rewards, ended | truncated, records


def _get(state: State, block: int, name: str) -> Any:
    return getattr(_block(state, block), name)


def _has(state: State, block: int, name: str) -> bool:
    return hasattr(_block(state, block), name)


def _set(state: State, block: int, name: str, value: Any) -> None:
    setattr(_block(state, block), name, value)


def _call(
    state: State, block: int, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    return getattr(_block(state, block), name)(*args, **kwargs)
