"""RL-Mix's environment: an episode is an epoch, a step is a batch, a choice for each image."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gymnasium.utils.env_checker import check_env as gymnasium_check
from numpy.testing import assert_allclose, assert_array_equal
from stable_baselines3.common.env_checker import check_env as sb3_check

from automix.core.errors import ConfigError
from automix.core.seeding import generator
from automix.data.image_set import InMemory
from automix.data.tasks import Task, TaskSpec
from automix.envs.rlmix.env import RLMixEnv
from automix.envs.rlmix.training import GRID, BatchTraining, similarity
from automix.mixing.batch import MixSettings
from automix.training.population import Population
from automix.training.settings import SelfAdaptiveSettings
from tests import tiny
from tests.envs import worlds

LOWEST, HIGHEST = 0, 9
"""Choices: percentile 0 keeps every cell, 0.99 the most salient one."""


class FakeWorld:
    """One task of noise images."""

    def __init__(
        self, shape=(1, 8, 8), train=12, classes=3, task: Task | None = None, **trainer: Any
    ) -> None:
        self.task = task or tiny.fake_task(shape, train=train, classes=classes)
        self.trainer = tiny.trainer_settings(**{"batch_size": 5, "epochs": 2} | trainer)
        self.device, self.num_classes, self.budget = "cpu", classes, self.trainer.epochs
        self.started = 0

    def draw(self, rng: np.random.Generator) -> TaskSpec:
        return replace(self.task.spec, seed=int(rng.integers(2**31)))

    def check(self, actions) -> None:
        pass

    def start(self, specs) -> Population:
        self.started += 1
        return Population([self.task] * len(specs), self.trainer, self.device)


def env_of(*args, **kwargs) -> RLMixEnv:
    return gymnasium.make("automix/RLMix-v0", world=FakeWorld(*args, **kwargs)).unwrapped


def play(env: RLMixEnv, epochs: int, seed: int = 5, rng_seed: int = 0) -> list[dict[str, Any]]:
    """Play some epochs at random; return each step's observation, reward and info."""
    rng, steps = np.random.default_rng(rng_seed), []
    for epoch in range(epochs):
        observation, _ = env.reset(seed=seed if epoch == 0 else None)
        ended = False
        while not ended:
            action = rng.integers(10, size=env.action_space.shape)
            before = observation
            observation, reward, ended, truncated, info = env.step(action)
            assert truncated is False
            steps.append({"seen": before, "reward": reward, "ended": ended, **info})
    return steps


SHAPES = [(1, 8, 8), (3, 32, 32), (3, 9, 13), (1, 4, 7)]


def test_both_checks_pass_and_make_needs_no_arguments():
    for shape in SHAPES:
        gymnasium_check(env_of(shape))
        sb3_check(env_of(shape))
    env = gymnasium.make("automix/RLMix-v0")
    assert env.action_space.nvec.tolist() == [10] * 50
    sizes = {name: part.shape for name, part in env.observation_space.spaces.items()}
    assert sizes == {"saliency": (50 * 64,), "logits": (50 * 10,), "present": (50,)}


def test_an_episode_is_an_epoch_of_whole_and_smaller_batches():
    """Of 11 images in batches of 5 the last rests, as in any training; alone by choice it plays."""
    batches = {(12, 5): [5, 5, 2], (12, 12): [12], (12, 20): [12], (11, 5): [5, 5], (3, 1): [1] * 3}
    for (train, batch_size), counts in batches.items():
        steps = play(env_of(train=train, batch_size=batch_size), epochs=2)
        assert [int(step["seen"]["present"].sum()) for step in steps] == counts * 2
        assert [step["ended"] for step in steps] == ([False] * (len(counts) - 1) + [True]) * 2
        assert [step["metrics"]["epoch"] for step in steps if step["ended"]] == [1, 2]
        assert [step["finished"] for step in steps] == [False] * (2 * len(counts) - 1) + [True]


def test_episodes_go_on_with_the_same_classifier_until_the_budget_is_spent():
    env = env_of()
    world = env._world
    play(env, epochs=2)
    assert world.started == 1
    env.reset()
    assert world.started == 2
    assert len(env.training.history) == 1


def test_a_reset_with_a_seed_or_amid_an_episode_starts_afresh():
    env = env_of()
    first, _ = env.reset(seed=3)
    env.step(env.action_space.sample())
    env.reset()
    assert env._world.started == 2
    again, _ = env.reset(seed=3)
    for name, part in again.items():
        assert_array_equal(part, first[name])


def test_options_name_task_and_seed():
    env = env_of()
    spec = TaskSpec(train_size=12, label_noise=0.0, seed=77)
    seen = [env.reset(options={"task": spec, "seed": 8}) for _ in range(2)]
    assert seen[0][1]["task"]["seed"] == 77
    assert_array_equal(seen[0][0]["logits"], seen[1][0]["logits"])
    other, _ = env.reset(options={"task": spec, "seed": 9})
    assert not np.array_equal(other["logits"], seen[0][0]["logits"])


@pytest.mark.parametrize("model", ["small_cnn_w8", "dropout_cnn_for_tests"])
def test_equal_seeds_give_equal_episodes_and_leave_global_generators_alone(model):
    env = env_of(model=model)
    state = torch.get_rng_state()
    first, other = play(env, 2, seed=5), play(env, 2, seed=6)
    torch.rand(1)
    again = play(env, 2, seed=5)
    assert [step["reward"] for step in first] == [step["reward"] for step in again]
    assert first[-1]["metrics"] == again[-1]["metrics"]
    assert [step["reward"] for step in first] != [step["reward"] for step in other]
    torch.set_rng_state(state)
    play(env, 1)
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_and_batches_are_those_of_any_training_with_the_seed():
    world = FakeWorld()
    env = RLMixEnv(world)
    env.reset(options={"seed": 4})
    population = world.start([None])
    assert env.training.history == population.reset([4])
    assert_array_equal(env.training._shared.rows, generator(4, "order", 0).permutation(12)[:5])


# What is seen ------------------------------------------------------------------------------------


def gradients_of(net: torch.nn.Module, images, targets) -> torch.Tensor:
    """Return the root mean square gradients on the grid, by the definition."""
    images = images.clone().requires_grad_()
    loss = -(targets * net(images).log_softmax(1)).sum(1).mean()
    loss.backward()
    return F.adaptive_avg_pool2d((images.grad**2).mean(1, keepdim=True) ** 0.5, GRID)[:, 0]


def net_of(env: RLMixEnv) -> torch.nn.Module:
    """A copy of the classifier as it is now, in training mode."""
    return copy.deepcopy(env.training.population.alone()._net)[0].train()


def watch_mixing(env: RLMixEnv, monkeypatch) -> list:
    """Collect the mixed batches and what they were made of."""
    mixed, make = [], env.training._mixed

    def watched(percentile):
        batch, lam = make(percentile)
        mixed.append((env.training._shared.images, batch.images[:, 0], batch.targets[:, 0], lam))
        return batch, lam

    monkeypatch.setattr(env.training, "_mixed", watched)
    return mixed


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_observation_and_reward_are_what_the_definition_says(shape, monkeypatch):
    env = env_of(shape)
    seen, _ = env.reset(seed=1)
    mixed = watch_mixing(env, monkeypatch)
    for _ in range(3):
        net, count = net_of(env), int(seen["present"].sum())
        shared = env.training._shared
        clean = gradients_of(net, shared.images, shared.targets)
        shares = clean / clean.sum((1, 2), keepdim=True)
        assert_allclose(seen["saliency"][: count * 64], shares.flatten(), rtol=1e-3, atol=1e-6)
        logits = net(shared.images).log_softmax(1).detach()
        assert_allclose(seen["logits"][: count * 3], logits.flatten(), rtol=1e-4, atol=1e-5)
        for name, size in (("saliency", 64), ("logits", 3), ("present", 1)):
            assert not seen[name][count * size :].any()
        seen, reward, *_ = env.step(env.action_space.sample())
        _, images, targets, _ = mixed[-1]
        after = gradients_of(net, images, targets)
        wanted = (clean * after).sum() / (clean.norm() * after.norm())
        assert reward == pytest.approx(float(wanted), rel=1e-4)


def test_only_training_images_decide():
    """With other validation and test images, in pixels and labels, all but the measures stay."""
    task = tiny.fake_task((1, 8, 8))
    pixels = task.images.pixels.read(np.arange(24))
    pixels[12:] = 1 - pixels[12:]
    labels = np.concatenate([task.images.labels[:12], task.images.labels[12:][::-1]])
    images = replace(task.images, pixels=InMemory(pixels), labels=labels)
    steps = [play(env_of(task=t), 2) for t in (task, replace(task, images=images))]
    assert steps[0][-1]["metrics"]["val_loss"] != steps[1][-1]["metrics"]["val_loss"]
    for mine, other in zip(*steps, strict=True):
        assert mine["reward"] == other["reward"]
        assert_array_equal(mine["seen"]["logits"], other["seen"]["logits"])


# What is done ------------------------------------------------------------------------------------


def test_an_image_keeps_its_percentile_where_it_is_the_partner(monkeypatch):
    """Keen images, which keep one cell of 4 or 16, stand beside images that keep everything.

    A keen one shows its partner outside of that cell; its partner's partner shows itself outside
    of the cell of the keen one. Partners stand one place before.
    """
    env = env_of((1, 8, 8), train=4, batch_size=4, mix=MixSettings(pairing="roll"))
    env.reset(seed=2)
    mixed = watch_mixing(env, monkeypatch)
    env.step(np.array([HIGHEST, LOWEST, HIGHEST, LOWEST]))
    ((own, images, _, lam),) = mixed
    for i in range(4):
        outside = own[i - 1] if i % 2 == 0 else own[i]
        changed = int((images[i] != outside).sum())
        assert changed in (4, 16)
        share = changed / 64
        assert (lam[i] <= share) if i % 2 == 0 else (lam[i] >= 1 - share)


def test_what_is_chosen_beyond_the_batch_is_ignored():
    env, rewards = env_of(train=7, batch_size=12), []
    for beyond in (LOWEST, HIGHEST):
        env.reset(seed=1)
        action = np.full(12, beyond)
        action[:7] = np.arange(7)
        rewards.append(env.step(action)[1])
    assert rewards[0] == rewards[1]
    env.reset(seed=1)
    assert env.step(np.full(12, HIGHEST))[1] != rewards[0]


def test_a_batch_costs_two_passes_each_way_and_looking_leaves_no_trace():
    env = env_of(train=12, batch_size=12)
    env.reset(seed=1)
    before = net_of(env).state_dict()
    env.training.look()
    for name, value in net_of(env).state_dict().items():
        assert torch.equal(value, before[name]), name
    steps = play(env_of(), epochs=1)
    assert steps[-1]["metrics"]["forward_passes"] == 2 * 12 + 12 + 6  # and probe and validation
    assert steps[-1]["metrics"]["backward_passes"] == 2 * 12


def test_settings_of_the_mix_hold(monkeypatch):
    env = env_of(mix=MixSettings(mix_probability=1e-9))
    env.reset(seed=0)
    mixed = watch_mixing(env, monkeypatch)
    env.step(env.action_space.sample())
    own, images, _, lam = mixed[0]
    assert torch.equal(images, own)
    assert lam.tolist() == [1.0] * 5


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_training_that_diverges_is_an_outcome():
    steps = play(env_of(lr=1e20, epochs=3), epochs=3)
    assert steps[-1]["diverged"] is True
    assert steps[-1]["finished"] is True
    assert [step["reward"] for step in steps[-3:]] == [0.0] * 3
    space = env_of().observation_space
    assert all(space.contains(step["seen"]) for step in steps)


def test_similarity():
    for clean, mixed, cosine in (
        ([1.0, 2.0], [1.0, 2.0], 1.0),
        ([1e-30, 2e-30], [1e30, 2e30], 1.0),
        ([1.0, 0.0], [0.0, 1.0], 0.0),
        ([3.0, 4.0], [4.0, 3.0], 0.96),
        ([0.0, 0.0], [1.0, 1.0], 0.0),
        ([float("nan"), 1.0], [1.0, 1.0], 0.0),
        ([1.0, 1.0], [float("inf"), 1.0], 0.0),
    ):
        assert similarity(torch.tensor([clean]), torch.tensor([mixed])) == pytest.approx(cosine)


def test_a_step_out_of_turn_is_an_error_that_says_so():
    env = env_of(batch_size=12)
    with pytest.raises(ConfigError, match="before reset") as error:
        env.step(env.action_space.sample())
    assert "env.reset()" in error.value.hint
    env.reset(seed=0)
    seen, *_ = env.step(env.action_space.sample())
    assert not any(part.any() for part in seen.values()), "after the last batch there is none"
    with pytest.raises(ConfigError, match="after the end of the episode"):
        env.step(env.action_space.sample())
    env.reset()
    whole, before = env.action_space.sample(), copy.deepcopy(env.training.history)
    for wrong in (-1, np.nan, None, whole[:-1], whole - 10, whole + 10, whole * 1.0, [whole] * 2):
        with pytest.raises(ConfigError, match=r"the action is .*, wanted whole numbers from 0"):
            env.step(wrong)
    assert env.training.history == before


def test_several_members_cannot_be_taken_batch_by_batch():
    population = Population([tiny.digits_task()] * 2, tiny.trainer_settings())
    population.reset([0, 0])
    with pytest.raises(ConfigError, match="2 members"):
        population.alone()
    with pytest.raises(ConfigError, match="before reset"):
        Population([tiny.digits_task()], tiny.trainer_settings()).alone()


# Targets -----------------------------------------------------------------------------------------


def losses(**changes: object) -> list[float]:
    """Mixed losses of two epochs."""
    settings = tiny.trainer_settings(**changes)
    training = BatchTraining(Population([tiny.digits_task()], settings), 0)
    for _ in range(2):
        training.begin_epoch()
        for _ in range(training.steps_per_epoch):
            shown = len(training.look().maps)
            training.step(np.full(shown, 4))
    return [record.mixed_loss for record in training.history[1:]]


def test_a_label_rule_and_what_it_sees_of_attention_reach_the_step():
    plain, model = losses(), {"model": "vit_digits"}
    for rule in ("perturbed", "saliency_mass", "visibility"):
        assert losses(mix=MixSettings(label_rule=rule)) != plain, rule
    assert losses(mix=MixSettings(label_rule="token_aligned"), **model) != losses(**model)
    with pytest.raises(ConfigError, match="attention needs the attention of the net"):
        RLMixEnv(worlds.image_world(mix=MixSettings(label_rule="attention")))


def test_settings_of_a_rule_and_the_classifiers_say_reach_the_step():
    still, strong = (
        MixSettings(
            label_rule="perturbed", options=["perturbed.noise=0", f"perturbed.strength={strength}"]
        )
        for strength in (0, 0.9)
    )
    assert losses(mix=still) == losses()
    assert losses(mix=strong) != losses()


def test_adapted_targets_are_trained_on_from_the_next_epoch():
    adapted = losses(self_adaptive=SelfAdaptiveSettings(start_epoch=1, momentum=0.2))
    assert adapted[0] == losses()[0]
    assert adapted[1] != losses()[1]
