"""Whether logged trainings are worth using twice, as the table of results/reuse.md.

    python -m benchmarks.reuse --seeds 0 1 --out results/reuse.md

Every row spends equally many real trainings and plays the same validation tasks; the test split is
not read. A row may fit a model to its trainings and let the agent learn on that as well, as Dyna
does (Sutton 1991), or keep them all in a replay buffer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn
from torch import Tensor, nn

from agents.config import load_settings
from agents.devices import stacked_groups
from agents.learners import AGENTS
from agents.progress import progress
from agents.recorder import Recorder
from agents.rundir import RunDirectory
from agents.sb3 import falling
from agents.settings import RunSettings
from agents.training import Learned, learn, make_mix_block
from agents.vec_env import GroupVecEnv
from agents.workers import Worker
from automix.seeding import borrowed_global_rng, derived_seed, generator
from benchmarks.ablations import (
    EXPERIMENT,
    TASKS,
    Learn,
    collect,
    command,
    show,
    table,
    validation_accuracy,
)

ROUNDS = 6
"""Of real trainings, 128 each, for every row."""
RANDOM_ROUNDS = 2
"""The first of them, in rows that start with actions drawn uniformly."""
IMAGINED_ROUNDS = 40
"""On the model, each as large as a real one."""
GENTLE = (1e-3, 3e-4)
"""Learning rates, first and last, on real trainings after imagined ones."""
NETS, HIDDEN = 5, 64
FIT_STEPS = 800
FIT_RATE = 1e-2
BATCH = 24
"""Groups at one step each, for each net."""
REWARD_WEIGHT = 20.0
"""Rewards come at one step in five, and decide."""

REPLAYED = [
    "agent=qr_dqn",
    "agent.group_size=15",  # the reference makes it 16 trainings a group, as everywhere
    "env.reward.reference=cutmix@0.5",
    f"agent.learning_starts={RANDOM_ROUNDS * 8 * 15 * 5}",
    "agent.batch_size=256",
    "agent.gradient_steps=16",
    "agent.n_steps=5",  # the one reward comes at the end
    "agent.gamma=1.0",
]
"""QR-DQN keeps every training in its buffer and learns from all of them ever after."""


# What is logged -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Log:
    """Steps in the order of playing, by group and member; all episodes end together."""

    seen: np.ndarray
    """(t, g, m, d)."""
    played: np.ndarray
    """(t, g, m) numbers of actions."""
    then: np.ndarray
    """(t, g, m, d): what was seen next."""
    rewards: np.ndarray
    """(t, g, m)."""
    ends: np.ndarray
    """(t,) bool: the last step of its episodes."""

    @property
    def steps(self) -> int:
        """Of an episode."""
        return int(np.flatnonzero(self.ends)[0]) + 1


class Logbook(VecEnvWrapper):
    """Keeps every step that is played.

    Args:
        env: The environments, group by group.
        members: Of a group.
    """

    def __init__(self, env: VecEnv, members: int) -> None:
        super().__init__(env)
        self._members, self._rows = members, []  # type: ignore[var-annotated]

    def reset(self) -> np.ndarray:
        """Start episodes."""
        self._seen = np.asarray(self.venv.reset())
        return self._seen

    def step_async(self, actions: np.ndarray) -> None:
        """Start a step everywhere."""
        self._played = np.asarray(actions)
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Finish and keep the step."""
        told = observations, rewards, dones, infos = self.venv.step_wait()
        then = [i.get("terminal_observation", o) for i, o in zip(infos, observations, strict=True)]
        self._rows.append((self._seen, self._played, np.stack(then), rewards, dones.all()))
        self._seen = np.asarray(observations)
        return told

    @property
    def log(self) -> Log:
        """Everything that was played so far."""
        columns = [np.stack(column) for column in zip(*self._rows, strict=True)]
        seen, played, then, rewards = (self._by_group(values) for values in columns[:4])
        return Log(seen, played, then, rewards, columns[4])

    def _by_group(self, values: np.ndarray) -> np.ndarray:
        return values.reshape(len(values), -1, self._members, *values.shape[2:])


# What is fitted to it -----------------------------------------------------------------------------


class OneStep(nn.Module):
    """What follows an observation and an action, and what a last step earns, by several nets.

    Args:
        seen: (n, d) observations to take the scale from.
        actions: How many there are.
        nets: Side by side; each starts from its own weights.
    """

    def __init__(self, seen: Tensor, actions: int, nets: int = NETS) -> None:
        super().__init__()
        self.actions, self.nets = actions, nets
        self.mean, self.std = seen.mean(0), seen.std(0) + 1e-3
        width = seen.shape[-1]
        sizes = [width + actions, HIDDEN, HIDDEN, width + 1]
        pairs = list(pairwise(sizes))
        self.weights = nn.ParameterList(torch.randn(nets, i, o) / i**0.5 for i, o in pairs)
        self.biases = nn.ParameterList(torch.zeros(nets, 1, o) for _, o in pairs)

    def forward(self, seen: Tensor, played: Tensor) -> tuple[Tensor, Tensor]:
        """Return what each net expects of its own rows.

        Args:
            seen: (nets, n, d).
            played: (nets, n) int64.

        Returns:
            The next observations (nets, n, d), and (nets, n) what each earns if it is the last.
        """
        scaled = (seen - self.mean) / self.std
        x = torch.cat([scaled, nn.functional.one_hot(played, self.actions)], -1)
        for number, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, torch.tanh(x) if number else x, weight)
        return (scaled + x[..., :-1]) * self.std + self.mean, x[..., -1]


@dataclass(frozen=True)
class Model:
    """A fitted model, where its episodes start, and how far off it was."""

    expects: OneStep
    starts: np.ndarray
    """(n, d) first observations, one a logged group."""
    residuals: np.ndarray
    """(steps, n, d): logged minus expected observations, by the step of the episode."""


def fitted(log: Log, actions: int, rng: np.random.Generator, steps: int = FIT_STEPS) -> Model:
    """Fit a model to logged trainings.

    The members of a group share task, weights and draws, so that how they differ is what their
    actions did: both losses look at deviations from the group's mean, that of observations at the
    values as well.

    Args:
        log: Of real trainings.
        actions: How many there are.
        rng: Draws batches.
        steps: Of the optimizer.
    """
    seen, then, rewards = (
        torch.as_tensor(values).float().flatten(0, 1)
        for values in (log.seen, log.then, log.rewards)
    )
    played = torch.as_tensor(log.played).long().flatten(0, 1)
    ends = torch.as_tensor(log.ends).repeat_interleave(log.seen.shape[1])
    model = OneStep(seen.flatten(0, 1), actions)
    optimizer = torch.optim.AdamW(model.parameters(), lr=FIT_RATE, weight_decay=0.05)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    apart_by, earned_by = apart(then, 1).std((0, 1)) + 1e-3, rewards[ends].std()
    for _ in range(steps):
        batch = torch.as_tensor(rng.integers(len(seen), size=(model.nets, BATCH)))
        expected, earned = model(seen[batch].flatten(1, 2), played[batch].flatten(1, 2))
        off = expected.view_as(then[batch]) - then[batch]
        missed = apart(earned.view_as(rewards[batch]) - rewards[batch], 2)[ends[batch]]
        loss = (off / model.std).square().mean() + (apart(off, 2) / apart_by).square().mean()
        loss = loss + REWARD_WEIGHT * (missed / earned_by).square().mean()
        optimizer.zero_grad()
        (model.nets * loss).backward()
        optimizer.step()
        rate.step()
    model.requires_grad_(False)
    seen, played, then = (values.flatten(0, 1) for values in (seen, played, then))
    expected, _ = model(*(v.expand(model.nets, *v.shape) for v in (seen, played)))
    off = (then - expected.mean(0)).view(-1, log.steps, log.seen[0, ..., 0].size, seen.shape[1])
    return Model(
        expects=model,
        starts=log.seen[:: log.steps, :, 0].reshape(-1, seen.shape[1]),
        residuals=off.transpose(0, 1).flatten(1, 2).numpy(),
    )


def apart(values: Tensor, members: int) -> Tensor:
    """Return deviations from the group's mean; the members are a dimension."""
    return values - values.mean(members, keepdim=True)


class Imagined(VecEnvWrapper):
    """Episodes on a model, shaped as those of the environments that it stands for.

    Args:
        env: What it stands for; never played.
        members: Of a group: they share their start and the net that is believed.
        model: Tells what follows.
        rng: Draws starts, nets and residuals.
    """

    def __init__(self, env: VecEnv, members: int, model: Model, rng: np.random.Generator) -> None:
        super().__init__(env)
        self._members, self._model, self._rng = members, model, rng
        space = self.observation_space
        assert isinstance(space, spaces.Box)  # for the type checker: all observations are numbers
        self._bounds = space.low, space.high

    def reset(self) -> np.ndarray:
        """Start an episode of a logged task in each group."""
        groups = self.num_envs // self._members
        drawn = self._rng.choice(self._model.starts, groups)
        self._seen = np.repeat(drawn, self._members, 0).astype(np.float32)
        self._nets = self._rng.integers(self._model.expects.nets, size=groups)
        self._step = 0
        return self._seen

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions."""
        self._played = np.asarray(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Tell what follows; after the last step, start anew."""
        expected, earned = self._expected()
        shown = expected + self._rng.choice(self._model.residuals[self._step], self.num_envs)
        self._seen = np.clip(shown, *self._bounds).astype(np.float32)
        self._step += 1
        last = self._step == len(self._model.residuals)
        infos = [{"terminal_observation": seen} if last else {} for seen in self._seen]
        by_group = earned.reshape(-1, self._members)
        rewards = (by_group - by_group.mean(1, keepdims=True)).ravel() * last
        shown = self.reset() if last else self._seen
        return shown, rewards, np.full(self.num_envs, last), infos

    def _expected(self) -> tuple[np.ndarray, np.ndarray]:
        """Ask all nets; return what each group's own one expects."""
        nets = self._model.expects.nets
        seen, played = torch.as_tensor(self._seen), torch.as_tensor(self._played).long()
        asked = seen.expand(nets, *seen.shape), played.expand(nets, *played.shape)
        own = np.repeat(self._nets, self._members), np.arange(self.num_envs)
        expected, earned = (values.numpy()[own] for values in self._model.expects(*asked))
        return expected, earned


# Ways of learning ---------------------------------------------------------------------------------


class Desk:
    """Where an agent learns: real trainings, all of them logged, and what is imagined from them.

    Args:
        settings: Of the run.
        env: The real trainings.
        logger: Of the agent.
    """

    def __init__(self, settings: RunSettings, env: VecEnv, logger: Logger) -> None:
        self._settings, self._budget = settings, settings.env.steps(settings.trainer.epochs)
        self._members = settings.agent.group_size
        self.env = Logbook(env, self._members)
        self._actions = int(env.action_space.n)  # type: ignore[attr-defined]
        self._rng = generator(settings.seed, "reuse")
        seed = derived_seed(settings.seed, "agent")
        self.agent = AGENTS[settings.agent.name](settings.agent, self.env, self._budget, seed)
        self.agent.set_logger(logger)

    def draw(self, rounds: int) -> None:
        """Play real trainings at random."""
        self.env.reset()
        for _ in range(rounds * self._budget):
            self.env.step(self._rng.integers(self._actions, size=self.env.num_envs))

    def play(self, rounds: int, rates: tuple[float, float]) -> None:
        """Learn from real trainings."""
        self._learn(self.env, rounds, rates)

    def imagine(self, rounds: int) -> None:
        """Learn on a model of all that was logged."""
        model = fitted(self.env.log, self._actions, self._rng)
        env = Imagined(self.env.venv, self._members, model, self._rng)
        rates = self._settings.agent.learning_rate, self._settings.agent.learning_rate_end
        self._learn(env, rounds, rates)

    def _learn(self, env: VecEnv, rounds: int, rates: tuple[float, float]) -> None:
        self.agent.lr_schedule = falling(*rates)
        self.agent.set_env(env)
        self.agent.learn(rounds * env.num_envs * self._budget)


Way = Callable[[Desk], None]


def pretrained(desk: Desk) -> None:
    """Random trainings, a model of them to learn on, then real trainings."""
    desk.draw(RANDOM_ROUNDS)
    desk.imagine(IMAGINED_ROUNDS)
    desk.play(ROUNDS - RANDOM_ROUNDS, GENTLE)


def learn_by(
    way: Way, settings: RunSettings, workers: Sequence[Worker], device: str, directory: RunDirectory
) -> Learned:
    """Learn a policy, as ``agents.training.learn`` does, in another way."""
    start = time.monotonic()
    agent, stacked = settings.agent, stacked_groups(settings, device)
    parts = settings.task, settings.trainer, settings.env, device
    block = partial(make_mix_block, agent.group_size, stacked, *parts)
    seed = derived_seed(settings.seed, "env")
    env = GroupVecEnv(block, agent.groups // stacked, workers, seed)
    with (
        borrowed_global_rng(derived_seed(settings.seed, "agent")),
        progress("learning", ROUNDS) as tick,
    ):
        logger = Logger(folder=None, output_formats=[])
        recorder = Recorder(env, settings.trainer.epochs, directory, logger, tick)
        desk = Desk(settings, recorder, logger)
        way(desk)
    recorder.record_round()
    env.close()
    return Learned(
        agent=desk.agent,
        updates=ROUNDS,
        episodes=recorder.episodes,
        classifier_epochs=recorder.episodes * settings.trainer.epochs,
        passes=recorder.passes,
        wall_s=time.monotonic() - start,
    )


# The rows -----------------------------------------------------------------------------------------

ROWS: dict[str, tuple[Learn, list[str]]] = {
    "as it is": (learn, []),
    "a third at random, PPO pre-trained on a model of it": (partial(learn_by, pretrained), []),
    "a third at random, all kept in a replay buffer (QR-DQN)": (learn, REPLAYED),
}


def settings_of(row: str, seed: int, overrides: list[str]) -> RunSettings:
    """Return the settings of one row; equally many trainings for each."""
    settings = load_settings([EXPERIMENT, f"seed={seed}", *ROWS[row][1], *overrides])
    agent = settings.agent
    steps = ROUNDS * agent.groups * agent.group_size * settings.env.steps(settings.trainer.epochs)
    return replace(settings, agent=replace(agent, total_timesteps=steps))


def played(row: str, seed: int, overrides: list[str], path: Path) -> list[float]:
    """Learn and play one row."""
    return validation_accuracy(settings_of(row, seed, overrides), path, ROWS[row][0])


def main() -> None:
    """Run what is missing and write the page."""
    options, rows, source = collect(__doc__, list(ROWS), "runs/reuse", played)
    parts = [
        "# Logged trainings, used twice",
        f"Validation accuracy in points on {TASKS} tasks drawn from the range of the family of "
        f"`{EXPERIMENT}`, one training each, after {ROUNDS * 128:,} real trainings, "
        f"{RANDOM_ROUNDS * 128} of them at random where a row says so. Differences are paired "
        "by task and seed of the agent; intervals draw tasks again.",
        table(rows, options.seeds, options.only),
        "How choices were fixed before, what failed and what bounds it: [tried.md](tried.md).",
        command("reuse", options.seeds) + source,
    ]
    show(parts, options.out)


if __name__ == "__main__":
    main()
