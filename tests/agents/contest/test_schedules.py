"""Hand-designed schedules: what they play when, and that SB3 takes them for policies."""

from __future__ import annotations

import numpy as np
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from automix.agents.contest.schedules import SCHEDULES, SchedulePolicy, strongest
from automix.envs import ActionCodec, ActionSettings, EnvSettings, RewardSettings, SurrogateMixEnv
from automix.envs.surrogate import SurrogateWorld, gain
from automix.mixing.actions import MixAction
from tests.cases import each
from tests.envs import worlds

every_schedule = each("name", list(SCHEDULES))
every_space = each("space", worlds.SPACES)

MENU = ActionCodec(ActionSettings()).choices
MENUS = [
    MENU,
    ActionCodec(worlds.GUIDED).choices,
    ActionCodec(ActionSettings(methods=("none", "mixup"), ratios=(0.3, 0.2))).choices,
    ActionCodec(ActionSettings(methods=("none", "rmix"), saliency=("spectral",))).choices,
    ActionCodec(ActionSettings(methods=("none",))).choices,
]
BUDGET = 20


def plays(name: str, actions=MENU, budget: int = BUDGET, seed: int = 0) -> list[MixAction]:
    rng = np.random.default_rng(seed)
    return [SCHEDULES[name](epoch / budget, actions=actions, rng=rng) for epoch in range(budget)]


def steps(name: str, **kwargs) -> list[str]:
    return [str(action) for action in plays(name, **kwargs)]


@every_schedule
def test_every_schedule_plays_only_what_the_agent_could_and_by_its_arguments_only(name):
    assert SCHEDULES.info(name).kind in ("schedule", "random", "fixed")
    assert plays(name, seed=3) == plays(name, seed=3)
    for actions in MENUS:
        for budget in (1, 7, 20):
            assert set(plays(name, actions, budget)) <= set(actions)


def test_schedules_of_two_parts_change_at_three_or_seven_tenths_and_none_never_mixes():
    assert steps("none") == ["none"] * 20
    assert steps("mix_then_none") == ["cutmix@0.5"] * 14 + ["none"] * 6
    assert steps("none_then_mix") == ["none"] * 6 + ["cutmix@0.5"] * 14


def test_linear_ramp_climbs_the_ratios_of_the_menu():
    played = plays("linear_ramp")
    ratios = [action.ratio for action in played]
    assert ratios == sorted(ratios)
    assert ratios[0] == 0.0
    assert ratios[-1] == 0.5
    assert set(ratios) == {0.0, 0.1, 0.25, 0.5}
    # The nearest step: 0.5 * 7 / 20 is exactly between 0.1 and 0.25, 0.5 * 8 / 20 is nearer 0.25.
    assert [ratios[2], ratios[3], ratios[8], ratios[14], ratios[16]] == [0.0, 0.1, 0.25, 0.25, 0.5]


def test_alternating_changes_ten_times_each_way_whatever_the_budget():
    assert steps("alternating") == ["cutmix@0.5", "none"] * 10
    assert steps("alternating", budget=40) == ["cutmix@0.5", "cutmix@0.5", "none", "none"] * 10


def test_random_draws_the_whole_menu_evenly():
    rng = np.random.default_rng(0)
    drawn = [str(SCHEDULES["random"](0.0, actions=MENU, rng=rng)) for _ in range(5000)]
    assert set(drawn) == {str(action) for action in MENU}
    counts = [drawn.count(str(action)) / len(drawn) for action in MENU]
    assert min(counts) > 0.08
    assert max(counts) < 0.12
    assert plays("random", seed=1) != plays("random", seed=2)


def test_the_strongest_mix_is_the_cutmix_a_person_would_pick():
    for actions, picked in (
        (["none", "mixup@0.5", "cutmix@0.1", "cutmix@0.25"], "cutmix@0.25"),
        (["none", "mixup@0.1", "rmix@0.5"], "rmix@0.5"),
        (["none", "cutmix@0.5+spectral", "cutmix@0.1"], "cutmix@0.1"),
        (["none", "rmix@0.5+spectral"], "rmix@0.5+spectral"),
        (["none"], "none"),
    ):
        assert str(strongest([MixAction.parse(text) for text in actions])) == picked


@every_space
@every_schedule
def test_a_schedule_answers_predict_for_one_observation_and_for_many(name, space):
    codec = ActionCodec(worlds.settings(space).actions)
    policy = SchedulePolicy(SCHEDULES[name], codec, seed=4)
    alone = SchedulePolicy(SCHEDULES[name], codec, seed=4)
    observations = np.zeros((5, 19), dtype=np.float32)
    observations[:, 0] = [0.0, 0.2, 0.5, 0.7, 0.95]
    actions, state = policy.predict(observations, state="kept", deterministic=True)
    assert state == "kept"
    assert len(actions) == 5
    for row, action in zip(observations, actions, strict=True):
        assert codec.space.contains(action)
        one, _ = alone.predict(row)
        assert codec.decode(one) == codec.decode(action)


@every_space
@every_schedule
def test_sb3s_evaluate_policy_plays_a_schedule_for_what_it_is_worth(name, space):
    settings = EnvSettings(actions=ActionSettings(space=space), reward=RewardSettings(scale=1.0))
    env = SurrogateMixEnv(BUDGET, settings)
    policy = SchedulePolicy(SCHEDULES[name], ActionCodec(settings.actions))
    episodes = 24
    env.reset(seed=0)
    rewards, lengths = evaluate_policy(
        policy, Monitor(env), n_eval_episodes=episodes, return_episode_rewards=True, warn=False
    )
    assert lengths == [BUDGET] * episodes
    if name == "random":
        return
    # Each episode earns what the schedule is worth on one of the noise levels.
    worth = {
        noise: sum(
            gain(action, noise, epoch / BUDGET, BUDGET) for epoch, action in enumerate(plays(name))
        )
        for noise in SurrogateWorld().label_noise
    }
    for reward in rewards:
        assert min(abs(reward - value) for value in worth.values()) < 1e-6
