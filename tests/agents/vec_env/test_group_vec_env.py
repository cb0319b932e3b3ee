"""SB3's own vec-env scenarios on groups of episodes, wherever the groups live."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecCheckNan, VecMonitor, VecNormalize

from automix.agents.learning.training import make_mix_block
from automix.agents.parallel.worker import InlineWorker, WorkerLost
from automix.agents.vec_env.group_vec_env import GroupVecEnv, dealt
from automix.core.errors import ConfigError, DataError
from automix.core.snapshots import from_bytes, to_bytes
from automix.envs import SurrogateVectorEnv
from automix.envs.worlds import WorldSettings
from tests import tiny
from tests.agents.parallel.fragile import Deaths, FragileWorker
from tests.envs import worlds
from tests.same import assert_same

BUDGET = 3
GROUPS, SIZE = 3, 2


def surrogate_block(settings):
    """Make one group, which waits to be reset."""
    return partial(SurrogateVectorEnv, SIZE, BUDGET, settings, 1, AutoresetMode.DISABLED)


def surrogate(workers=None, space="factored", seed=5, groups=GROUPS) -> GroupVecEnv:
    make_block = surrogate_block(worlds.settings(space))
    return GroupVecEnv(make_block, groups, workers or [InlineWorker()], seed)


UNEVEN = replace(worlds.FAMILY, train_sizes=(20, 40, 100))
"""Tasks of which some cost several times as much as others."""


def real(workers, family=worlds.FAMILY, blocks=GROUPS, groups=1, **reward) -> GroupVecEnv:
    world = WorldSettings(family, tiny.trainer_settings(epochs=2))
    make_block = partial(make_mix_block, SIZE, groups, [world], worlds.settings(**reward), "cpu")
    return GroupVecEnv(make_block, blocks, workers, 5)


def uneven(workers, blocks=4, groups=1) -> GroupVecEnv:
    return real(workers, UNEVEN, blocks, groups)


def inline(count):
    return [InlineWorker() for _ in range(count)]


def trajectory(env: GroupVecEnv, steps: int) -> list[np.ndarray]:
    """Play the same random actions; return all that came back."""
    env.action_space.seed(0)
    found = [env.reset()]
    for _ in range(steps):
        actions = np.stack([env.action_space.sample() for _ in range(env.num_envs)])
        observations, rewards, dones, infos = env.step(actions)
        found += [observations, rewards, dones]
        found += [np.array([info["val_accuracy"], info["passes"]]) for info in infos]
        found += [i["terminal_observation"] for i in infos if "terminal_observation" in i]
    return found


def assert_equal(got: list[np.ndarray], wanted: list[np.ndarray], case: object = "") -> None:
    """Fail if two trajectories differ in a bit."""
    assert len(got) == len(wanted)
    for one, other in zip(got, wanted, strict=True):
        assert_array_equal(one, other, err_msg=str(case))


def test_spaces_and_shapes_are_those_of_one_member():
    for space in worlds.SPACES:
        env = surrogate(space=space)
        member = SurrogateVectorEnv(SIZE, BUDGET, worlds.settings(space))
        assert env.num_envs == GROUPS * SIZE
        assert env.observation_space == member.single_observation_space
        assert env.action_space == member.single_action_space
        observations = env.reset()
        assert observations.shape == (6, *env.observation_space.shape)
        assert observations.dtype == np.float32
        assert env.reset_infos == [{}] * 6
        actions = np.stack([env.action_space.sample() for _ in range(6)])
        observations, rewards, dones, infos = env.step(actions)
        assert observations.shape == (6, *env.observation_space.shape)
        assert rewards.shape == dones.shape == (6,)
        assert rewards.dtype == np.float32
        assert dones.dtype == bool
        assert len(infos) == 6


def test_the_end_of_an_episode_shows_its_last_observation_and_the_next_ones_first():
    env = surrogate()
    env.reset()
    kinds = [kinds[0] for kinds in env.get_attr("task_kinds")]
    for step in range(1, 2 * BUDGET + 1):
        observations, _, dones, infos = env.step(np.zeros((6, 3), dtype=np.int64))
        over = step % BUDGET == 0
        assert [info["task"] for info in infos] == kinds, "of the task that ended, if one did"
        kinds = [kinds[0] for kinds in env.get_attr("task_kinds")]
        assert dones.tolist() == [over] * 6
        assert ["terminal_observation" in info for info in infos] == [over] * 6
        progress = (step % BUDGET) / BUDGET
        np.testing.assert_allclose(observations[:, 0], progress, atol=1e-6)
        # The last epoch is an end, not a time limit past which SB3 would bootstrap.
        assert not any(info.get("TimeLimit.truncated") for info in infos)
        if over:
            assert [info["terminal_observation"][0] for info in infos] == [1.0] * 6


def test_each_action_reaches_its_own_member():
    env = surrogate(groups=2)
    env.reset()
    actions = np.array([[0, 0, 0], [1, 0, 0], [2, 1, 0], [3, 2, 0]])
    infos = env.step(actions)[3]
    assert [info["mix"] for info in infos] == ["none", "mixup@0.1", "cutmix@0.25", "rmix@0.5"]


def test_what_is_no_action_is_refused_before_any_block_goes_on():
    for space in worlds.SPACES:
        env = surrogate(space=space)
        with pytest.raises(ConfigError, match="before reset"):
            env.step(np.zeros((6, *env.action_space.shape), dtype=int))
        env.reset()
        before, form = env.state_dict(), env.action_space.shape
        for wrong in (-1, np.full((6, *form), -1), np.full((6, *form), np.nan), np.zeros((5, 3))):
            with pytest.raises(ConfigError, match=r"the action is .*, wanted whole numbers"):
                env.step(wrong)
        assert_same(env.state_dict(), before)


def test_methods_and_attributes_are_those_of_the_group_an_environment_is_in():
    env = surrogate()
    env.reset()
    assert env.get_attr("num_envs") == [SIZE] * 6
    assert env.get_attr("num_envs", indices=3) == [SIZE]
    env.set_attr("colour", "red", indices=[2, 3])
    assert env.has_attr("num_envs")
    assert not env.has_attr("colour")
    assert env.get_attr("colour", indices=2) == ["red"]
    assert env.get_attr("colour", indices=[3]) == ["red"]
    env.set_attr("colour", "blue")
    assert env.get_attr("colour") == ["blue"] * 6
    assert env.has_attr("colour")
    assert env.env_method("action_masks", indices=[1])[0].shape == (10,)
    assert env.get_attr("render_mode") == [None] * 6
    # No wrapper goes around a member.
    assert env.env_is_wrapped(Monitor) == [False] * 6
    assert env.env_is_wrapped(Monitor, indices=[0, 3]) == [False] * 2


def test_maskable_agents_find_one_mask_a_member():
    for space, entries in (("factored", 10), ("flat", 28)):
        env = surrogate(space=space)
        assert is_masking_supported(env)
        masks = get_action_masks(env)
        assert masks.shape == (6, entries)
        assert masks.all()


def test_sb3s_wrappers_go_around_all_of_them():
    env = VecCheckNan(VecNormalize(VecMonitor(surrogate())), raise_exception=True)
    env.reset()
    for _ in range(BUDGET):
        infos = env.step(np.zeros((6, 3), dtype=np.int64))[3]
    assert [info["episode"]["l"] for info in infos] == [BUDGET] * 6


def test_seeding_by_sb3_changes_nothing():
    """An agent seeds its environments when it is built; the episodes have a seed of their own."""
    env, seeded = surrogate(), surrogate()
    assert seeded.seed(123) == [None] * 6
    assert_equal(trajectory(env, 4), trajectory(seeded, 4))
    again, other = (surrogate(seed=seed).reset() for seed in (5, 6))
    assert not np.array_equal(other, again), "the seed of the episodes"


def test_processes_give_what_this_process_gives_bit_for_bit(processes):
    """One, two, and one beside this process, over three groups: an uneven deal."""
    wanted = trajectory(real(inline(1), baseline="group"), 5)
    for workers in (processes[:1], processes, [processes[0], InlineWorker()]):
        env = real(workers, baseline="group")
        with pytest.raises(ConfigError, match="before reset"):
            env.step(np.zeros((6, 3), dtype=int))  # nothing is sent, so no answer is left behind
        got = trajectory(env, 5)
        masks = get_action_masks(env)
        assert masks.shape == (6, 10)
        assert is_masking_supported(env)
        assert not env.has_attr("nothing_of_that_name")
        assert env.get_attr("task_kinds", indices=[0, 2, 4]) == [
            env.get_attr("task_kinds")[index] for index in (0, 2, 4)
        ]
        env.close()
        assert_equal(got, wanted)
    env = uneven(processes)  # whose blocks move between processes
    assert_equal(trajectory(env, 5), trajectory(uneven(inline(1)), 5))
    env.close()


def test_workers_are_told_the_settings_and_some_may_have_no_work(processes):
    env = surrogate(workers=[*processes, InlineWorker()], groups=1)
    assert len(env.reset()) == SIZE
    env.close()
    settings = replace(worlds.settings("flat"), observations=("progress", "last_ratio"))
    env = GroupVecEnv(surrogate_block(settings), 2, processes, 0)
    assert env.observation_space.shape == (2,)
    assert env.action_space.n == 28
    env.close()


# Dealing blocks out -----------------------------------------------------------------------------

COSTS = st.lists(st.integers(0, 20), max_size=9)


def loads(costs, hands):
    return [sum(costs[item] for item in hand) for hand in hands]


@given(costs=COSTS, hands=st.integers(1, 4))
def test_every_item_is_dealt_once_no_hand_is_empty_without_need_or_much_fuller(costs, hands):
    held = dealt(costs, hands)
    assert len(held) == hands
    assert sorted(item for hand in held for item in hand) == list(range(len(costs)))
    assert all(hand == sorted(hand) for hand in held)
    assert sum(not hand for hand in held) == max(0, hands - len(costs))
    assert held == dealt(list(costs), hands)
    # When a hand got its last item it had the least, so no more than its share of the others.
    for hand, load in zip(held, loads(costs, held), strict=True):
        least = min((costs[item] for item in hand), default=0)
        assert load <= (sum(costs) - least) / hands + least


@given(costs=st.lists(st.integers(0, 20), min_size=1, max_size=6), hands=st.integers(1, 3))
def test_the_fullest_hand_is_near_the_best_of_all_deals(costs, hands):
    """Graham 1969, theorem 2: 4/3 - 1/(3 m) of the optimum."""
    best = min(
        max(sum(c for c, to in zip(costs, deal, strict=True) if to == h) for h in range(hands))
        for deal in product(range(hands), repeat=len(costs))
    )
    fullest = max(loads(costs, dealt(costs, hands)))
    assert fullest <= (4 / 3 - 1 / (3 * hands)) * best + 1e-9


def test_equal_costs_go_round_and_the_dearest_are_dealt_first():
    assert dealt([1] * 7, 3) == [[0, 3, 6], [1, 4], [2, 5]]
    assert dealt([0] * 4, 2) == [[0, 2], [1, 3]]
    assert dealt([], 2) == [[], []]
    assert dealt([1, 5, 1, 1, 2], 2) == [[1], [0, 2, 3, 4]]
    assert dealt([1, 1, 1, 100], 3) == [[3], [0, 2], [1]]
    assert dealt([7, 7, 0, 0], 3) == [[0], [1], [2, 3]]


def test_blocks_are_held_by_what_their_episodes_cost():
    env, plain = uneven(inline(2)), uneven(inline(1))
    seen = []
    for _ in range(4):
        env.reset()
        plain.reset()
        kinds = [kinds[0] for kinds in env.get_attr("task_kinds", range(0, 8, SIZE))]
        costs = [int(kind.split()[0]) for kind in kinds]
        assert kinds == [kinds[0] for kinds in plain.get_attr("task_kinds", range(0, 8, SIZE))]
        assert env._held == dealt(costs, 2)
        seen.append(tuple(map(tuple, env._held)))
    assert len(set(seen)) > 1, "blocks that move: else the tests below show nothing"


def test_results_do_not_depend_on_the_worker_that_holds_a_block():
    """Three episodes of four blocks, bit by bit; blocks move between workers in between."""
    wanted = trajectory(uneven(inline(1)), 7)
    for count in (2, 3, 4, 6):
        assert_equal(trajectory(uneven(inline(count)), 7), wanted, count)


def test_attributes_go_where_their_block_goes():
    env = uneven(inline(2))
    env.set_attr("colour", "grey")
    env.set_attr("colour", "red", indices=[2])
    env.set_attr("shape", "round", indices=[7])
    holders = set()
    for _ in range(5):
        env.reset()
        holders.add(next(w for w, held in enumerate(env._held) if 1 in held))
        assert env.get_attr("colour") == ["grey"] * 2 + ["red"] * 2 + ["grey"] * 4
        assert env.get_attr("shape", indices=[6, 7]) == ["round", "round"]
        assert not env.has_attr("shape")
    assert holders == {0, 1}


def test_a_worker_holds_no_block_that_it_does_not_play():
    workers = inline(2)
    env = uneven(workers)
    for _ in range(4):
        env.reset()
        assert [sorted(worker._state["blocks"]) for worker in workers] == env._held
    env.close()
    assert [worker._state for worker in workers] == [{}, {}]


def test_a_block_may_hold_several_groups():
    env = uneven(inline(2), blocks=3, groups=2)
    assert env.num_envs == 3 * 2 * SIZE
    observations = env.reset().reshape(6, SIZE, -1)
    assert_array_equal(observations[:, 0], observations[:, 1])
    assert len({group[0].tobytes() for group in observations}) == 6
    kinds = env.get_attr("task_kinds", indices=[0, 4, 8])
    costs = [sum(int(kind.split()[0]) for kind in block[::SIZE]) for block in kinds]
    assert env._held == dealt(costs, 2)
    infos = env.step(np.zeros((12, 3), dtype=np.int64))[3]
    assert [info["task"] for info in infos] == [kind for block in kinds for kind in block]
    wanted = trajectory(uneven(inline(1), blocks=3, groups=2), 5)
    assert_equal(trajectory(uneven(inline(3), blocks=3, groups=2), 5), wanted)


def test_groups_draw_the_same_however_they_are_put_into_blocks():
    """Beside that, only the order of sums in a larger stack can differ."""
    alone, in_pairs = (uneven(inline(2), blocks=b, groups=g) for b, g in ((6, 1), (3, 2)))
    for _ in range(2):
        np.testing.assert_allclose(alone.reset(), in_pairs.reset(), rtol=1e-4, atol=1e-5)
        kinds = [kinds[0] for kinds in alone.get_attr("task_kinds")]
        blocks = in_pairs.get_attr("task_kinds")
        assert kinds == [of_block[env % (2 * SIZE)] for env, of_block in enumerate(blocks)]


def test_every_episode_has_a_seed_of_its_own_whatever_was_played_before():
    """An episode that is broken off changes nothing in the next one."""
    env, other = uneven(inline(2)), uneven(inline(2))
    first = [env.reset() for _ in range(3)]
    other.reset()
    other.step(np.zeros((8, 3), dtype=np.int64))
    assert_array_equal(other.reset(), first[1])
    for _ in range(2):
        last = other.step(np.ones((8, 3), dtype=np.int64))[0]
    assert_array_equal(last, first[2])
    assert not np.array_equal(first[0], first[1])


# Deaths -----------------------------------------------------------------------------------------


def fragile(deaths: Deaths, count=2, max_restarts=3) -> list[FragileWorker]:
    return [FragileWorker(index, deaths, max_restarts) for index in range(count)]


def eventful(env: GroupVecEnv) -> list[np.ndarray]:
    """Use all that the algorithms use, over two episodes; return what came back."""
    env.action_space.seed(0)
    env.set_attr("colour", "grey")
    found = [env.reset()]
    for step in range(BUDGET + 2):
        if step == 1:
            env.set_attr("colour", "red", indices=[1, 2])
            env.state_dict()
        found += env.env_method("action_masks")
        actions = np.stack([env.action_space.sample() for _ in range(env.num_envs)])
        observations, rewards, dones, infos = env.step(actions)
        actions += 1  # the caller's own, to do with as it likes
        found += [observations, rewards, dones, np.array([i["val_accuracy"] for i in infos])]
        found += [np.array(env.get_attr("colour")), np.array(env.get_attr("task_kinds"))]
    assert not env.has_attr("shape")
    env.close()
    return found


def calls_of(play) -> int:
    deaths = Deaths()
    play(fragile(deaths))
    return deaths.calls


def test_a_death_at_any_call_changes_nothing():
    """Construction, resets, steps, attributes, masks, snapshots: every call is tried."""
    wanted = eventful(surrogate(inline(2)))
    calls = calls_of(lambda workers: eventful(surrogate(workers)))
    assert calls > 50
    for call in range(calls):
        workers = fragile(Deaths([call]))
        got = eventful(surrogate(workers))
        # Whoever dies while its state is dropped anyway need not come back.
        assert sum(worker.restarts for worker in workers) == (call < calls - 2), call
        assert_equal(got, wanted)


def test_deaths_in_the_middle_of_trainings_change_nothing():
    """Real trainings, blocks that move, deaths of both workers and of one that is coming back."""
    wanted = trajectory(uneven(inline(2)), 5)
    calls = calls_of(lambda workers: trajectory(uneven(workers), 5))
    for at in ([calls // 2], [4, 5, 6], [calls - 4, calls - 1, calls + 1]):
        workers = fragile(Deaths(at))
        got = trajectory(uneven(workers), 5)
        assert sum(worker.restarts for worker in workers) == len(at)
        assert_equal(got, wanted)


def test_a_worker_that_dies_too_often_ends_the_run():
    env = surrogate(fragile(Deaths(range(10, 100)), max_restarts=2))
    with pytest.raises(WorkerLost, match=r"worker \d died 3 times \(last: as it should\)"):
        trajectory(env, 4)


def test_what_a_method_changed_is_changed_again_after_a_death():
    """Every call that may change a block is played again; only masks are known to be read."""

    def play(workers):
        env = surrogate(workers)
        env.reset()
        env.env_method("reset", seed=77)
        return env.step(np.zeros((6, 3), dtype=np.int64))[0]

    wanted = play(inline(2))
    assert not np.array_equal(wanted, trajectory(surrogate(inline(2)), 1)[1])
    last = calls_of(play) - 1
    assert_array_equal(play(fragile(Deaths([last]))), wanted)


# States -----------------------------------------------------------------------------------------


def played_on(env: GroupVecEnv, steps: int) -> list[np.ndarray]:
    """Step with a fixed choice of actions; return all that came back."""
    rng = np.random.default_rng(3)
    found = []
    for _ in range(steps):
        actions = rng.integers(0, 2, (env.num_envs, 3))
        observations, rewards, dones, infos = env.step(actions)
        found += [observations, rewards, dones, np.array([i["val_accuracy"] for i in infos])]
    return found


def test_a_fresh_env_goes_on_from_a_state():
    """At the start, in the middle and at the end of episodes; other workers hold the blocks."""
    for steps in range(3):
        env = uneven(inline(2))
        trajectory(env, steps)
        state = from_bytes(to_bytes(env.state_dict()))
        wanted = played_on(env, 3)
        other = uneven(inline(3))
        other.load_state_dict(state)
        assert other.reset_infos == [{}] * 8
        assert_equal(played_on(other, 3), wanted, steps)


def test_a_death_after_going_on_from_a_state_changes_nothing():
    env = surrogate(inline(2))
    trajectory(env, 1)
    state = env.state_dict()
    wanted = played_on(env, 3)

    def play(workers):
        other = surrogate(workers)
        other.load_state_dict(state)
        return played_on(other, 3)

    for call in range(calls_of(play)):
        assert_equal(play(fragile(Deaths([call]))), wanted, call)


def test_a_state_shortens_what_is_played_again():
    deaths = Deaths()
    env = surrogate(fragile(deaths, count=1))
    trajectory(env, 2)
    before = len(env._workers[0]._calls)
    env.state_dict()
    assert len(env._workers[0]._calls) < before


def test_a_state_before_the_first_reset_is_the_beginning():
    env = surrogate()
    state = from_bytes(to_bytes(env.state_dict()))
    other = surrogate()
    other.load_state_dict(state)
    assert_equal(trajectory(other, 4), trajectory(env, 4))


def test_a_state_of_other_blocks_is_refused():
    env = surrogate(groups=2)
    env.reset()
    with pytest.raises(DataError, match="holds 2 blocks, wanted 3"):
        surrogate(groups=3).load_state_dict(env.state_dict())
