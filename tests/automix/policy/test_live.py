"""A policy in a training loop: it plays as in the environment, and says what it lacks."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.multiprocessing as multiprocessing
from torch import Tensor, distributed

import automix
from automix.core.errors import ConfigError, DataError
from automix.envs.codec import ActionCodec, ActionSettings
from automix.envs.groups import StackedGroups
from automix.envs.settings import EnvSettings
from automix.envs.worlds import ImageWorld
from automix.mixing.boxed import numbers_of
from automix.policy.live import LiveMixer
from automix.policy.observations import Observer
from automix.policy.policy import MixPolicy, PolicyForm
from automix.policy.policy_net import Memory, PolicyNet
from tests import tiny
from tests.cases import each
from tests.envs.worlds import FAMILY

WORLDS = automix.load_policy()
IMAGES = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8)
FACTS: dict[str, Any] = {"epochs": 10, "train_size": 100, "batch_size": 25, "augmented": False}


def answers(seed: int = 0, sure: float = 1.0) -> tuple[Tensor, Tensor]:
    """Return logits of a net that is right in some cases, and the labels."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(10, (40,), generator=rng)
    right = torch.nn.functional.one_hot(labels, 10) * sure
    return torch.randn(40, 10, generator=rng) + right, labels


def policy_for(env: EnvSettings, remembers: bool = False, seed: int = 0) -> MixPolicy:
    """Return a policy of random weights, large enough to choose many things."""
    codec = ActionCodec(env.actions)
    observer = Observer(env.observations, env.actions)
    actions = asdict(env.actions)
    form = PolicyForm(
        observations=observer.names,
        observation_sizes=observer.sizes,
        choices=[str(choice) for choice in codec.choices],
        epochs_per_action=env.epochs_per_action,
        decisions=env.decisions,
        **actions,
    )
    rng, seen = np.random.default_rng(seed), sum(observer.sizes)
    outputs = {
        "flat": len(codec.choices),
        "factored": sum(map(len, (form.methods, form.ratios, form.saliency))),
        "box": numbers_of(form.methods, form.saliency),
    }[form.space]

    def weights(rows: int, columns: int) -> np.ndarray:
        return (3 * rng.normal(size=(rows, columns))).astype(np.float32)

    memory = Memory(weights(32, seen), weights(32, 8), weights(32, 1)[:, 0]) if remembers else None
    layer = weights(outputs, 8 if remembers else seen), weights(outputs, 1)[:, 0]
    output = "clip" if form.space == "box" else "logits"
    return MixPolicy(form, PolicyNet(layers=[layer], output=output, memory=memory), {})


TIMES = [{"decisions": 5}, {"epochs_per_action": 3}, {}]
SEES = ("progress", "skill", "train_loss", "val_loss_change", "lr_share", "log_steps")
SEES = (*SEES, "gradient_norm", "last_method", "last_ratio", "val_loss_history", "augmented")


@each("times, space, remembers", [(t, "flat", t == {}) for t in TIMES] + [({}, "factored", False)])
def test_it_plays_as_the_greedy_episode_of_the_environment_does(times, space, remembers):
    """Shown what the nets of an episode answer, it chooses what the environment's policy does."""
    world = ImageWorld(FAMILY, tiny.trainer_settings(epochs=10))
    env = EnvSettings(observations=SEES, actions=ActionSettings(space=space), **times)
    groups, policy = StackedGroups(world, env, 1), policy_for(env, remembers, seed=5)
    spec = world.draw(np.random.default_rng(0))
    facts, player, starts = world.facts(spec), policy.player(), policy.form.starts(10)
    mixer = policy.mixer(
        facts.num_classes,
        epochs=10,
        train_size=facts.train_size,
        batch_size=facts.batch_size,
        peak_lr=facts.peak_lr,
        augmented=facts.augmented,
    )
    (seen,), found = groups.reset([spec], [0]), []
    for start, end in zip(starts, [*starts[1:], 10], strict=True):
        ((ensemble, _),) = groups.training._ensembles()
        data, record = ensemble._members[0].data, groups.groups[0].histories[0][-1]
        logits, labels, probe = ensemble.logits(data.seen)[:, 0], data.seen_labels, data.probe
        assert mixer.set_epoch(start)
        chosen = mixer.observe(
            probe=(logits[:probe], labels[:probe]),
            val=(logits[probe:], labels[probe:]),
            gradient_norm=record.gradient_norm,
            learning_rate=record.lr,
        )
        assert chosen == player.action(seen)
        assert mixer.action == chosen
        found.append(str(chosen))
        assert not any(mixer.set_epoch(epoch) for epoch in range(start + 1, end))
        seen = groups.step([chosen], epochs=end - start)[0].observations[0]
    assert len(set(found)) > 1


def test_what_comes_along_is_three_lines():
    mixer = automix.load_policy().mixer(10, **FACTS)
    for epoch in range(10):
        if mixer.set_epoch(epoch):
            mixer.observe(probe=answers(0, epoch), val=answers(1, epoch))
        assert (str(mixer.action) == "none") == torch.equal(mixer(IMAGES, LABELS)[0], IMAGES)
    assert mixer.action.mixes  # what has been learned by heart is mixed


def test_a_numeric_choice_is_played_as_it_is():
    env = EnvSettings(observations=("progress",), actions=ActionSettings(space="box"))
    policy = policy_for(env)
    mixer = policy.mixer(10, epochs=2, train_size=8)
    assert mixer.set_epoch(0)
    assert mixer.observe() == policy.player().action(np.zeros(1, dtype=np.float32))


# Resumed, copied, in several processes ----------------------------------------------------------


def shown(mixer: LiveMixer, first: int, last: int) -> list[tuple[str, Tensor]]:
    """Return what is played, and a batch of it, in some epochs of a training that learns."""
    found = []
    for epoch in range(first, last):
        if mixer.set_epoch(epoch):
            mixer.observe(probe=answers(0, epoch), val=answers(1, epoch / 2))
        found.append((str(mixer.action), mixer(IMAGES, LABELS)[0]))
    return found


def same(ours: list[tuple[str, Tensor]], theirs: list[tuple[str, Tensor]]) -> bool:
    return all(a == b and torch.equal(x, y) for (a, x), (b, y) in zip(ours, theirs, strict=True))


@each("remembers", [False, True])
@each("stop", range(11))
def test_one_that_is_resumed_goes_on_as_if_nothing_had_happened(stop, remembers):
    observations = ("progress", "skill", "val_loss_history", "last_ratio")
    policy = policy_for(EnvSettings(observations=observations, decisions=5), remembers)
    given = {"epochs": 10, "train_size": 100, "seed": 4}
    whole, before, after = (policy.mixer(10, **given) for _ in range(3))
    wanted = shown(whole, 0, 10)
    got = shown(before, 0, stop)
    after.load_state_dict(json.loads(json.dumps(before.state_dict())))
    assert same(got + shown(after, stop, 10), wanted)


@each("twin", [copy.deepcopy, lambda mixer: pickle.loads(pickle.dumps(mixer))])
def test_a_copy_goes_on_alone(twin):
    mixer = WORLDS.mixer(10, **FACTS)
    shown(mixer, 0, 4)
    other = twin(mixer)
    assert same(shown(other, 4, 10), shown(mixer, 4, 10))


def decide(rank: int, folder: str) -> None:
    """Play in one of two processes, of which the second is shown nothing."""
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    mixer, found = WORLDS.mixer(10, **FACTS), []
    for epoch in range(10):
        if mixer.set_epoch(epoch):
            seen = {"probe": answers(0, epoch), "val": answers(1, epoch)} if rank == 0 else {}
            mixer.observe(**seen)
        found.append((str(mixer.action), mixer(IMAGES, LABELS)[0].sum().item()))
    Path(folder, f"{rank}.json").write_text(json.dumps(found), encoding="utf-8")
    distributed.destroy_process_group()


def test_rank_0_decides_for_all_and_each_rank_draws_its_own(tmp_path):
    multiprocessing.spawn(decide, (str(tmp_path),), nprocs=2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert [action for action, _ in first] == [action for action, _ in second]
    mixed = [n for n, (action, _) in enumerate(first) if action != "none"]
    assert mixed
    assert all(first[n][1] != second[n][1] for n in mixed)


# Refused, and said ------------------------------------------------------------------------------


def begun(epoch: int = 0, **changes: Any) -> LiveMixer:
    mixer = WORLDS.mixer(10, **(FACTS | changes))
    mixer.set_epoch(epoch)
    return mixer


NAN = torch.full((40, 10), torch.nan)
WRONG = [
    (lambda: WORLDS.mixer(10, **(FACTS | {"batch_size": None})), "log_steps, which wants batch"),
    (lambda: WORLDS.mixer(10, **(FACTS | {"augmented": None})), "which wants augmented"),
    (lambda: WORLDS.mixer(10, **(FACTS | {"epochs": 4})), "4 epochs is shorter than its 5"),
    (lambda: WORLDS.mixer(10, **(FACTS | {"train_size": 0})), "train_size is 0"),
    (lambda: WORLDS.mixer(0, **FACTS), "num_classes is 0"),
    (lambda: WORLDS.mixer(10, **FACTS).action, "has not been asked yet"),
    (lambda: begun()(IMAGES, LABELS), "to be asked before epoch 0, and has not been"),
    (lambda: begun().set_epoch(1), "was to be asked before epoch 0"),
    (lambda: begun(3), "epoch 3 begins, and the policy was to be asked before epoch 0"),
    (lambda: begun(-1), "epoch is -1"),
    (lambda: begun(0.5), "epoch is 0.5"),  # type: ignore[arg-type]
    (lambda: begun().observe(val=answers()), "sees train_skill, and what it is made of is missing"),
    (lambda: begun().observe(probe=answers()), "sees skill"),
    (lambda: begun().observe(probe=answers(), val=answers(), accuracy=0.9), "was given accuracy"),
    (lambda: begun().observe(partner_share=25), "partner_share is 25, wanted a number from 0 to 1"),
    (lambda: begun().observe(probe=answers()[0], val=answers()), "probe is not a pair"),
    (lambda: begun().observe(probe=answers(), val=(IMAGES[:0, 0, 0], LABELS[:0])), "val"),
    (
        lambda: begun().observe(probe=answers(), val=(answers()[0].softmax(1), answers()[1])),
        "val: logits look like probabilities",
    ),
    (lambda: begun().observe(probe=answers(), val=(NAN, LABELS)), "labels are .* for 40 images"),
    (
        lambda: begun().observe(probe=answers(), val=(NAN, answers()[1])),
        "val: logits are not finite",
    ),
    (
        lambda: begun().observe(probe=answers(), val=(torch.zeros(40, 9), answers()[1])),
        r"val: logits are \(40, 9\), wanted \(n, 10\)",
    ),
    (
        lambda: begun().observe(probe=answers(), val=(torch.zeros(40, 10), answers()[1] + 9)),
        "wanted classes 0 to 9",
    ),
]


@each("state", [{}, {"records": [{}]}, {"records": [], "choice": [1.0, 0.0, 0.0], "memory": None}])
def test_a_state_of_something_else_is_refused_and_changes_nothing(state):
    mixer = WORLDS.mixer(10, **FACTS)
    shown(mixer, 0, 4)
    before = mixer.state_dict()
    with pytest.raises(DataError, match="not the state of a mixer that the policy"):
        mixer.load_state_dict(state)
    assert mixer.state_dict() == before


@each("call, says", WRONG)
def test_what_it_lacks_or_cannot_use_is_said(call, says):
    with pytest.raises(ConfigError, match=says):
        call()


def asked(mixer: LiveMixer, first: int, last: int) -> list[int]:
    """Go through epochs; return those before which the policy was asked."""
    found = []
    for epoch in range(first, last):
        if mixer.set_epoch(epoch):
            mixer.observe(probe=answers(epoch), val=answers(epoch + 1))
            found.append(epoch)
    return found


def test_a_mixer_that_begins_again_knows_nothing_of_the_first_training():
    mixer, fresh = (WORLDS.mixer(10, **FACTS) for _ in range(2))
    assert asked(mixer, 0, 10) == asked(mixer, 0, 10) == asked(fresh, 0, 10) == [0, 2, 4, 6, 8]
    assert mixer.state_dict()["records"] == fresh.state_dict()["records"]
    with pytest.raises(ConfigError, match="epoch 3 begins after epoch 9"):
        mixer.set_epoch(3)


def test_a_mixer_that_has_gone_further_goes_back_to_a_state():
    mixer, other = (WORLDS.mixer(10, **FACTS) for _ in range(2))
    asked(mixer, 0, 5)
    state = mixer.state_dict()
    assert asked(mixer, 5, 10) == [6, 8]
    wanted = mixer.state_dict()["records"]
    for one in (mixer, other):
        one.load_state_dict(state)
        assert asked(one, 5, 10) == [6, 8]
        assert one.state_dict()["records"] == wanted


def test_a_training_that_goes_on_for_longer_or_shorter_is_asked_at_the_new_plans_times():
    for budget, stop, longer, then in (
        (10, 10, 20, [12, 16]),
        (10, 5, 40, [8, 16, 24, 32]),
        (20, 5, 10, [6, 8]),
        (20, 7, 10, [7, 8]),  # one is overdue
    ):
        mixer = WORLDS.mixer(10, **(FACTS | {"epochs": budget}))
        asked(mixer, 0, stop)
        other = WORLDS.mixer(10, **(FACTS | {"epochs": longer}))
        other.load_state_dict(mixer.state_dict())
        assert asked(other, stop, longer) == then, (budget, stop, longer)
        with pytest.raises(ConfigError, match="has planned for"):
            other.set_epoch(longer - 1, epochs=7)


def test_a_question_at_another_time_changes_nothing():
    mixer = WORLDS.mixer(10, **FACTS)
    shown(mixer, 0, 1)
    assert not mixer.set_epoch(1)
    before = mixer.state_dict()
    assert mixer.observe(probe=answers(5), val=answers(6)) == mixer.action
    assert mixer.state_dict() == before


def test_a_plan_that_is_over_and_unlike_trainings_are_warned_of_once(caplog):
    mixer = WORLDS.mixer(10, **(FACTS | {"epochs": 300, "train_size": 10**6}))
    for epoch in range(303):
        if mixer.set_epoch(epoch):
            mixer.observe(probe=answers(0), val=answers(1))
    told = [record.getMessage() for record in caplog.records]
    assert sum("log_epochs is 0.619, learned on 0.175 to 0.5" in line for line in told) == 1
    assert sum("epoch 300 of 300: the policy's plan is over" in line for line in told) == 1
    assert len(told) == len(set(told))


def test_it_carries_out_its_choices_as_where_they_were_learned():
    policy = MixPolicy(WORLDS.form, WORLDS.net, {"mix": {"pairing": "derange"}})
    assert policy.mixer(10, **FACTS).settings == replace(WORLDS.mix, pairing="derange")
