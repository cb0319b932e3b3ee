"""RL-Mix as a contestant: its net, its PPO, and one training from beginning to end."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from numpy.testing import assert_array_equal
from stable_baselines3.common.distributions import MultiCategoricalDistribution
from torch.testing import assert_close

from automix.agents.contest.own_training import OWN_TRAINING
from automix.agents.contest.own_training.rlmix import minibatch, ppo
from automix.agents.contest.own_training.rlmix_policy import (
    ImageChoices,
    ImageFeatures,
    ImagePolicy,
)
from automix.core.seeding import borrowed_global_rng, generator
from automix.training.evaluation import test_scores as scores_of
from tests.cases import each
from tests.envs.test_rlmix import FakeWorld

PLACES, CLASSES = 6, 3


def trained(seed=1, **world):
    world = FakeWorld(**world)
    return OWN_TRAINING["rlmix"](world, world.task.spec, seed), world


# The training ------------------------------------------------------------------------------------


@each("epochs", [1, 2, 5])
def test_it_hands_over_one_whole_training_and_starts_no_other(epochs):
    result, world = trained(epochs=epochs)
    assert world.started == 1
    assert [record.epoch for record in result.history] == list(range(epochs + 1))
    assert list(result.mixes) == ["rlmix"] * epochs
    assert result.population.members == 1
    (score,) = scores_of(result.population)
    assert 0 <= score.accuracy <= 1
    (record,) = result.population.alone().measure()
    assert record.val_loss == result.history[-1].val_loss


def test_every_pass_is_counted():
    result, _ = trained(epochs=3)
    measured = 12 + 6
    assert [m.forward_passes for m in result.history] == [measured] + [2 * 12 + measured] * 3
    assert [m.backward_passes for m in result.history] == [0] + [2 * 12] * 3


@each("model", ["small_cnn_w8", "dropout_cnn_for_tests"])
def test_equal_seeds_give_equal_trainings_whatever_was_drawn_before(model):
    first, _ = trained(model=model, epochs=5)
    before = torch.get_rng_state()
    np.random.rand(3)  # noqa: NPY002
    torch.rand(3)
    state = torch.get_rng_state()
    again, _ = trained(model=model, epochs=5)
    assert torch.equal(torch.get_rng_state(), state)
    other, _ = trained(seed=2, model=model, epochs=5)
    torch.set_rng_state(before)
    assert again.history == first.history
    assert other.history != first.history


@each(
    "world",
    [
        {"shape": (3, 32, 32), "classes": 4, "train": 9, "batch_size": 4},  # a rest of one
        {"shape": (3, 9, 13), "train": 7, "batch_size": 20},
        {"shape": (1, 5, 5), "train": 3, "batch_size": 1},
        {"train": 40, "batch_size": 20, "classes": 10},
    ],
)
def test_any_form_of_task_trains(world):
    result, _ = trained(epochs=3, **world)
    assert result.history[-1].epoch == 3
    assert not result.history[-1].diverged


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_training_that_diverges_is_an_outcome():
    result, _ = trained(lr=1e20, epochs=4)
    assert result.history[-1].diverged
    assert len(result.history) == 5


def test_the_agent_updates_while_the_classifier_trains(monkeypatch):
    """With its learning rate at 0 it plays by its first weights, and the training is another."""
    first, _ = trained(epochs=5)
    monkeypatch.setattr("automix.agents.contest.own_training.rlmix.LEARNING_RATE", 0.0)
    idle, _ = trained(epochs=5)
    assert idle.history[:3] == first.history[:3]  # no update before the end of the second epoch
    assert idle.history[3:] != first.history[3:]


def test_minibatches_are_about_a_fourth_as_published_but_divide_and_are_not_tiny():
    cases = {1000: 250, 8: 8, 254: 127, 256: 64, 2 * 255: 170, 2 * 107: 107}
    for n_steps, size in cases.items():
        assert minibatch(n_steps) == size
        assert n_steps % size == 0


# The net -----------------------------------------------------------------------------------------


def observation_space(places=PLACES, classes=CLASSES):
    box = {"saliency": places * 64, "logits": places * classes, "present": places}
    return spaces.Dict({k: spaces.Box(-20, 1, (n,), np.float32) for k, n in box.items()})


@pytest.fixture
def policy():
    with borrowed_global_rng(0):
        policy = ImagePolicy(
            observation_space(),
            spaces.MultiDiscrete([10] * PLACES),
            lambda _: 1e-3,
            features_extractor_class=ImageFeatures,
        )
        for layer in policy.action_net.children():  # the first scores are nearly alike
            torch.nn.init.normal_(layer.weight)
    return policy


def observed(present=PLACES, batches=2):
    """Random observations: (batches, places, ...) by name."""
    rng = generator(0, "observed")
    shapes = {"saliency": (64,), "logits": (CLASSES,), "present": ()}
    seen = {
        name: torch.from_numpy(rng.random((batches, PLACES, *shape), dtype=np.float32))
        for name, shape in shapes.items()
    }
    seen["present"] = (torch.arange(PLACES) < present).float().expand(batches, -1).clone()
    return seen


def flat_of(seen):
    """As the environment gives them."""
    return {name: part.flatten(1) for name, part in seen.items()}


def asked(policy, seen):
    """Return scores (batches, places, choices) and values (batches, 1)."""
    flat = flat_of(seen)
    with torch.no_grad():
        choices = policy.get_distribution(flat).distribution.base_dist
        return choices.logits, policy.predict_values(flat)


def test_in_another_order_every_image_gets_the_same_choice(policy):
    seen, order = observed(present=4), [3, 5, 0, 2, 4, 1]
    scores, values = asked(policy, seen)
    moved, same = asked(policy, {name: part[:, order] for name, part in seen.items()})
    assert_close(moved, scores[:, order])
    assert_close(same, values)
    assert (scores[:, 0] - scores[:, 1]).abs().max() > 1e-3  # images do differ


def test_it_does_not_matter_which_class_is_which(policy):
    seen = observed()
    turned = {**seen, "logits": seen["logits"][:, :, [2, 0, 1]]}
    for mine, other in zip(asked(policy, seen), asked(policy, turned), strict=True):
        assert_close(mine, other)
    sharper = {**seen, "logits": seen["logits"] * 2}
    assert not torch.equal(asked(policy, sharper)[0], asked(policy, seen)[0])


def test_places_without_an_image_choose_nothing_and_count_for_nothing(policy):
    seen = observed(present=4)
    actions, values, log_prob = policy(flat_of(seen))
    assert_array_equal(actions[:, 4:], 0)
    for name in ("saliency", "logits"):
        seen[name][:, 4:] = 7.0
    now, probability, entropy = policy.evaluate_actions(flat_of(seen), actions)
    assert_close(now, values)
    assert_close(probability, log_prob)
    scores, _ = asked(policy, seen)
    own = torch.distributions.Categorical(logits=scores[:, :4])
    assert_close(probability, own.log_prob(actions[:, :4]).sum(1))
    assert_close(entropy, own.entropy().sum(1))


def test_choices_are_those_of_sb3s_own_distribution():
    scores = torch.from_numpy(generator(0, "scores").normal(size=(3, PLACES, 10)))
    mine = ImageChoices(PLACES, 10).proba_distribution(scores)
    theirs = MultiCategoricalDistribution([10] * PLACES).proba_distribution(scores.flatten(1))
    assert_close(mine.mode(), theirs.mode())
    actions = torch.arange(3 * PLACES).view(3, PLACES) % 10
    assert_close(mine.log_prob(actions), theirs.log_prob(actions))
    assert_close(mine.entropy(), theirs.entropy())


class Guess(gymnasium.Env):
    """The reward is the share of images whose choice is the one that their map shows.

    Maps are bright in the upper half or in the lower: choice 0 or 9. Of six places one is empty.
    """

    def __init__(self):
        self.observation_space = observation_space()
        self.action_space = spaces.MultiDiscrete([10] * PLACES)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._shown(), {}

    def _shown(self):
        self._low = self.np_random.integers(2, size=PLACES - 1)
        maps = np.zeros((PLACES, 2, 32), np.float32)
        maps[np.arange(PLACES - 1), self._low] = 1 / 32
        present = np.ones(PLACES, np.float32)
        present[-1] = 0
        logits = np.zeros(PLACES * CLASSES, np.float32)
        return {"saliency": maps.ravel(), "logits": logits, "present": present}

    def step(self, action):
        right = action[: PLACES - 1] == 9 * self._low
        return self._shown(), float(right.mean()), True, False, {}


@pytest.mark.learning
def test_it_learns_which_choice_an_image_wants(monkeypatch):
    monkeypatch.setattr("automix.agents.contest.own_training.rlmix.LEARNING_RATE", 1e-2)
    env = Guess()
    with borrowed_global_rng(0):
        agent = ppo(env, 64, 0)
        agent.learn(128 * 4)
    seen, _ = env.reset(seed=1)
    rewards = []
    for _ in range(50):
        seen, reward, *_ = env.step(agent.predict(seen, deterministic=True)[0])
        rewards.append(reward)
    assert np.mean(rewards) > 0.9  # one choice for all would get 0.5
