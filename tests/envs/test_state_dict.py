"""Going on from a state is going on: every later number is the same, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode

from automix.core.errors import ConfigError
from automix.core.snapshots import from_bytes, to_bytes
from automix.envs import (
    ActionSettings,
    EnvSettings,
    ImageWorld,
    MixEnv,
    MixVectorEnv,
    RewardSettings,
    SurrogateMixEnv,
    SurrogateVectorEnv,
)
from automix.envs.groups import StackedGroups, generator_at
from automix.envs.rewards import REWARDS
from automix.envs.surrogate import SurrogateWorld
from automix.labels import LABEL_RULES
from automix.mixing.actions import MixAction
from automix.policy.observations import OBSERVATIONS
from automix.training.settings import SaliencySettings, SelfAdaptiveSettings
from tests import tiny
from tests.agents.stand_ins import NoisyWorld
from tests.envs import worlds
from tests.same import assert_same

EVERYTHING = ("progress", *(name for name in OBSERVATIONS if name != "progress"))
"""Every observation there is: one that remembers something by itself would be caught."""

EPOCHS = 4
RULES = [
    f"cutmix{'+gradient' * entry.info.needs_maps}:{entry.name}"
    for entry in LABEL_RULES.entries()
    if not entry.info.requires  # which the net has not
]


@lru_cache
def world_of(epochs: int = EPOCHS, **trainer: Any) -> ImageWorld:
    return ImageWorld(worlds.FAMILY, tiny.trainer_settings(epochs=epochs, **trainer))


def settings_of(
    actions: ActionSettings = worlds.GUIDED, reward: str = "loss_gain", **changes: Any
) -> EnvSettings:
    baseline = changes.pop("baseline", "none")
    rewards = RewardSettings(name=reward, baseline=baseline, reference="mixup@0.3")
    return EnvSettings(actions=actions, observations=EVERYTHING, reward=rewards, **changes)


@dataclass(frozen=True)
class Case:
    """A vectorised environment and how long it is played before its state is taken."""

    settings: EnvSettings = field(default_factory=settings_of)
    trainer: dict[str, Any] = field(default_factory=dict)
    groups: int = 1
    size: int = 2
    mode: AutoresetMode = AutoresetMode.SAME_STEP
    before: int = 2

    def make(self) -> MixVectorEnv:
        world = world_of(**self.trainer)
        return MixVectorEnv(self.size, world, self.settings, self.groups, self.mode)


GRADIENT = ActionSettings(methods=("rmix", "cutmix"), ratios=(0.3, 0.5), saliency=("gradient",))
EMA = ActionSettings(methods=("rmix", "cutmix"), ratios=(0.5,), saliency=("ema",))
LABELS = ActionSettings(methods=RULES, ratios=(0.4,), saliency=("off",))
CASES = {
    "before the first step": Case(before=0),
    "after a step": Case(before=1),
    "before the last step": Case(before=EPOCHS - 1),
    "after an episode": Case(before=EPOCHS),
    "in the second episode": Case(before=EPOCHS + 1),
    "after an episode that must be reset": Case(before=EPOCHS, mode=AutoresetMode.DISABLED),
    "two groups": Case(groups=2),
    "before a fork": Case(settings_of(fork=True), groups=2, before=0),
    "after a fork": Case(settings_of(fork=True), groups=2, before=EPOCHS - 1),
    "two epochs an action": Case(settings_of(epochs_per_action=2), before=1),
    "the last action cut short": Case(settings_of(epochs_per_action=3, fork=True), before=1),
    "a group baseline": Case(settings_of(baseline="group"), groups=2),
    "a hidden reference": Case(settings_of(baseline="reference"), groups=2),
    "a hidden reference and a fork": Case(settings_of(baseline="reference", fork=True), before=1),
    "a saliency bank": Case(
        settings_of(GRADIENT), {"saliency": SaliencySettings(refresh=3)}, before=1
    ),
    "maps off the step": Case(
        settings_of(GRADIENT), {"saliency": SaliencySettings(source="step")}, before=1
    ),
    "a moving average": Case(settings_of(EMA), {"model_ema": True, "model_ema_decay": 0.8}),
    "targets of their own": Case(
        settings_of(GRADIENT),
        {"self_adaptive": SelfAdaptiveSettings(start_epoch=1, momentum=0.5)},
        groups=2,
    ),
    "label rules": Case(settings_of(LABELS)),
    "any ratio": Case(settings_of(replace(worlds.GUIDED, space="box"))),
    "adamw": Case(trainer={"opt": "adamw", "lr": 0.005}),
    "one cycle": Case(trainer={"sched": "onecycle"}),
    "nets that draw": Case(trainer={"model": "dropout_cnn_for_tests"}, groups=2),
}


def play(env: MixVectorEnv | MixEnv, steps: int, seed: int = 0) -> list[Any]:
    """Play on with actions drawn from a seed, reset where that is the caller's; return it all."""
    env.action_space.seed(seed)
    told: list[Any] = []
    for _ in range(steps):
        told.append(env.step(env.action_space.sample()))
        mode = env.metadata.get("autoreset_mode", AutoresetMode.DISABLED)
        if np.all(told[-1][2]) and mode is AutoresetMode.DISABLED:
            told.append(env.reset())
    return told


def begun(env: MixVectorEnv, before: int) -> MixVectorEnv:
    """Reset and play; what needs a reset after an episode gets it."""
    env.reset(seed=5)
    play(env, before, seed=1)
    return env


def passed_on(env: MixVectorEnv | MixEnv) -> Any:
    """What arrives when a state goes to another process."""
    return from_bytes(to_bytes(env.state_dict()))


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_fresh_environment_goes_on_as_the_old_one_does(case):
    env, fresh = begun(case.make(), case.before), case.make()
    fresh.load_state_dict(passed_on(env))
    assert to_bytes(fresh.state_dict()) == to_bytes(env.state_dict())
    assert fresh.task_kinds == env.task_kinds
    steps = EPOCHS - case.before % EPOCHS + 1  # into the next episode
    assert_same(play(fresh, steps), play(env, steps))
    assert to_bytes(fresh.state_dict()) == to_bytes(env.state_dict())


def test_every_reward_goes_on():
    """And with it, as in all the cases, every observation."""
    for reward in REWARDS:
        case = Case(settings_of(reward=reward, baseline="reference"), {"epochs": 2})
        env, fresh = begun(case.make(), 1), case.make()
        fresh.load_state_dict(passed_on(env))
        assert_same(play(fresh, 2), play(env, 2))


@pytest.mark.parametrize("world", [world_of(), SurrogateWorld(EPOCHS), NoisyWorld(EPOCHS)])
def test_one_environment_alone_goes_on(world):
    """A reset that follows draws the task that it would have drawn."""
    for space, before in product(("factored", "flat", "box"), (0, 1, EPOCHS)):
        settings = settings_of(replace(worlds.GUIDED, space=space))
        env, fresh = MixEnv(world, settings), MixEnv(world, settings)
        env.reset(seed=3)
        play(env, before, seed=1)
        fresh.load_state_dict(passed_on(env))
        assert_same(play(fresh, EPOCHS + 1), play(env, EPOCHS + 1))
        assert_same(fresh.reset(), env.reset())


def test_groups_in_closed_form_go_on():
    modes = (AutoresetMode.SAME_STEP, AutoresetMode.DISABLED)
    for before, mode, every in product((0, 2, 5, 6, 9), modes, (1, 4)):
        settings = settings_of(fork=True, baseline="reference", epochs_per_action=every)
        env, fresh = (
            SurrogateVectorEnv(3, 6, settings, groups=3, autoreset_mode=mode) for _ in range(2)
        )
        begun(env, before)
        fresh.load_state_dict(passed_on(env))
        assert_same(play(fresh, 13), play(env, 13))


def test_one_alone_and_a_group_of_one_go_on_from_each_other():
    alone, group = SurrogateMixEnv(EPOCHS), SurrogateVectorEnv(1, EPOCHS)
    alone.reset(seed=3)
    alone.step(np.array([1, 1, 0]))
    group.load_state_dict(passed_on(alone))
    assert_same(group.step(np.array([[2, 0, 0]]))[0][0], alone.step(np.array([2, 0, 0]))[0])
    assert to_bytes(group.state_dict()) == to_bytes(alone.state_dict())


def test_an_end_that_waits_for_its_reset_still_waits():
    case = Case(mode=AutoresetMode.DISABLED)
    env, fresh = case.make(), case.make()
    env.reset(seed=5)
    for _ in range(EPOCHS):
        env.step(env.action_space.sample())
    fresh.load_state_dict(passed_on(env))
    assert_same(fresh.reset(), env.reset())
    assert_same(play(fresh, 2), play(env, 2))


def broken(env: MixVectorEnv, member: int) -> None:
    """Let a member's weights be no numbers from now on."""
    state = env.state_dict()
    for value in state["trainings"][0]["members"][member]["classifier"].values():
        if value.is_floating_point():
            value.fill_(float("nan"))
    env.load_state_dict(state)


@pytest.mark.parametrize("fork", [False, True])
def test_a_member_that_diverged_rests_there_too(fork):
    case = Case(settings_of(baseline="group", fork=fork), size=3)
    for resting in (False, True):
        env, fresh = begun(case.make(), 1), case.make()
        broken(env, 1)
        if resting:
            assert env.step(np.zeros((3, 3), dtype=np.int64))[4]["diverged"].tolist()[1]
        fresh.load_state_dict(passed_on(env))
        told = play(env, 3)
        assert_same(play(fresh, 3), told)
        assert (told[0][1][1] == 0) == resting, "the penalty is taken once"


# Copies ------------------------------------------------------------------------------------------


def test_what_is_played_afterwards_changes_neither_the_state_nor_the_other():
    """By every part that a training can have: banks, average, targets of their own."""
    actions = replace(GRADIENT, saliency=("gradient", "ema"))
    trainer = {
        "model_ema": True,
        "saliency": SaliencySettings(refresh=3),
        "self_adaptive": SelfAdaptiveSettings(start_epoch=1, momentum=0.5),
    }
    case = Case(settings_of(actions, fork=True), trainer, groups=2)
    env = begun(case.make(), 2)
    state = env.state_dict()
    kept = to_bytes(state)
    first, second = case.make(), case.make()
    first.load_state_dict(state)
    second.load_state_dict(state)
    told = play(env, EPOCHS)
    assert_same(play(first, EPOCHS), told)
    assert to_bytes(state) == kept
    assert to_bytes(second.state_dict()) == kept
    assert_same(play(second, EPOCHS), told)


def test_an_environment_that_has_played_something_else_goes_on_as_well():
    case = Case(settings_of(fork=True), groups=2)
    env, other = begun(case.make(), 2), case.make()
    state = passed_on(env)
    wanted = play(env, 3)
    other.reset(seed=77)
    play(other, EPOCHS + 1, seed=4)
    for one in (other, env, other):
        one.load_state_dict(state)
        assert_same(play(one, 3), wanted)


def test_groups_remember_what_was_played():
    for world in (world_of(), SurrogateWorld(EPOCHS)):
        settings = settings_of(baseline="reference")
        groups, other = StackedGroups(world, settings, 2), StackedGroups(world, settings, 2)
        (was,), (own,) = groups.groups, other.groups
        groups.reset([world.draw(np.random.default_rng(0))], [7])
        groups.step([MixAction("cutmix", 1 / 3), MixAction("mixup", 0.1)])
        other.load_state_dict(from_bytes(to_bytes(groups.state_dict())))
        assert own._last == was._last, "the text of an action would have rounded its ratio"
        for one in (groups, other):
            one.step(was.codec.choices[5:7])
        assert (own.mixes, own.histories, own.spec) == (was.mixes, was.histories, was.spec)


def test_there_is_no_state_before_the_first_reset():
    groups = StackedGroups(SurrogateWorld(3), EnvSettings(), 2, 1)
    for env in (SurrogateMixEnv(3), SurrogateVectorEnv(2, 3), groups):
        with pytest.raises(ConfigError, match="before reset") as caught:
            env.state_dict()
        assert caught.value.hint == "call env.reset() first"


# Refusals ----------------------------------------------------------------------------------------


def closed(size=2, budget=3, groups=1, **changes: Any) -> Callable[[], MixVectorEnv]:
    return lambda: SurrogateVectorEnv(size, budget, EnvSettings(**changes), groups)


def images(size=2, **trainer: Any) -> Callable[[], MixVectorEnv]:
    return lambda: MixVectorEnv(size, world_of(**trainer), EnvSettings())


REFERENCE = RewardSettings(baseline="reference")
OTHERS: dict[str, tuple[Callable[[], Any], Callable[[], Any], str]] = {
    "members": (closed(2), closed(3), "with members 2, this one has 3"),
    "groups": (closed(groups=2), closed(groups=1), "with groups 2, this one has 1"),
    "budget": (closed(budget=4), closed(budget=3), "with budget 4, this one has 3"),
    "hidden": (closed(reward=REFERENCE), closed(), "with trainings 3, this one has 2"),
    "pace": (closed(epochs_per_action=2), closed(), "with epochs_per_action 2, this one has 1"),
    "fork": (closed(fork=True), closed(), "with fork True, this one has False"),
    "closed form": (
        closed(budget=EPOCHS),
        images(),
        "the state is of 0 members, this population has 2",
    ),
    "classifiers": (images(), closed(budget=EPOCHS), "of 0 closed-form training runs, these are 2"),
    "net": (
        images(),
        images(model="dropout_cnn_for_tests"),
        "has trainer.model small_cnn_w8, of this population dropout_cnn",
    ),
    "optimizer": (
        images(),
        images(opt="adamw"),
        "has trainer.opt nesterov, of this population adamw",
    ),
    "batches": (images(), images(batch_size=8), "has trainer.batch_size 16, of this population 8"),
    "average": (
        images(),
        images(model_ema=True),
        "has trainer.model_ema False, of this population True",
    ),
    "probe": (images(), images(probe_size=9), "member 0 of the state has measured images 50"),
}


@pytest.mark.parametrize(("taken", "given", "said"), OTHERS.values(), ids=OTHERS)
def test_the_state_of_another_environment_is_refused_by_one_line(taken, given, said):
    env, other = taken(), given()
    env.reset(seed=0)
    other.reset(seed=1)
    before = to_bytes(other.state_dict())
    with pytest.raises(ConfigError, match=said) as caught:
        other.load_state_dict(passed_on(env))
    assert "\n" not in caught.value.message
    assert to_bytes(other.state_dict()) == before


def test_what_is_no_state_of_an_environment_is_refused():
    envs = SurrogateMixEnv(3), SurrogateVectorEnv(2, 3)
    for env, content in product(envs, ({}, {"setup": None}, {"members": []})):
        with pytest.raises(ConfigError, match="this is not the state of an environment"):
            env.load_state_dict(content)


def test_a_generator_goes_on_where_another_is():
    rng = np.random.Generator(np.random.PCG64(4))
    rng.integers(2**31, dtype=np.int32)  # leaves half of a draw for the next one
    other = generator_at(from_bytes(to_bytes(rng.bit_generator.state)))
    wanted = rng.integers(2**31, size=5, dtype=np.int32).tolist()
    assert other.integers(2**31, size=5, dtype=np.int32).tolist() == wanted


def test_a_state_holds_no_reference_to_the_classifiers_memory():
    """What training changes in place is not what a state holds."""
    env = begun(Case().make(), 1)
    state = env.state_dict()
    (ensemble, _), *_ = env._groups.training._places
    with torch.no_grad():
        for weight in ensemble._net.parameters():
            weight.zero_()
    classifier = state["trainings"][0]["members"][0]["classifier"]
    assert any(bool(value.any()) for value in classifier.values())
