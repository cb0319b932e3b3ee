"""What a policy was learned on, what it is asked for, and what it never saw."""

from __future__ import annotations

from typing import Any

import numpy as np

from automix.agents.learning.export import about
from automix.agents.learning.scope import scope_lines, scope_of
from automix.policy.policy import MixPolicy, PolicyForm
from tests.agents import tiny_run

FORM = PolicyForm(
    observations=["progress", "val_loss", "log_steps"],
    observation_sizes=[1, 1, 1],
    methods=["none", "cutmix"],
    ratios=[0.5],
    saliency=["off"],
    space="flat",
    choices=["none", "cutmix@0.5"],
)
LAYER = (np.zeros((2, 3), np.float32), np.zeros(2, np.float32))
SEEN = {"progress": [0.0, 0.0, 0.9, 0.9], "val_loss": [0.1, 0.2, 1.0, 1.2], "log_steps": [0.25] * 4}
SUITE = "worlds.suite={a: {trainer: {epochs: [10, 60]}}, b: {task: {train_sizes: [200]}}}"


def policy(*words: str, **more: Any) -> MixPolicy:
    return MixPolicy(FORM, [LAYER], about(tiny_run.settings(*words)) | more)


def trial(*rows: list[float], kind: str = "agent") -> dict[str, Any]:
    return {"kind": kind, "observations": [list(row) for row in rows]}


def test_what_it_is_asked_for_is_held_against_what_it_was_learned_on():
    learned = policy(SUITE, "env.decisions=2", "trainer.epochs=20")
    assert learned.summary == "ppo, 3 worlds, 10 to 60 epochs"
    for words, says in (
        ([], ["budget 2 epochs; learned on 10 to 60"]),
        (["trainer.epochs=300"], ["budget 300 epochs; learned on 10 to 60"]),
        (
            ["trainer.epochs=30", "task.train_sizes=[40,500]"],
            ["40 to 500 training images; learned"],
        ),
        (
            ["trainer.epochs=30", "trainer.model=resnet18"],
            ["net resnet18; learned on small_cnn_w8"],
        ),
        (["trainer.epochs=30", "task.label_noise=[0.4]"], ["label noise 0.4; learned on 0 to 0.3"]),
        (
            ["task=npz", "task.root=here/mine.npz", "trainer.epochs=9"],
            ["image set npz (mine.npz); learned on digits", "budget 9 epochs"],
        ),
        (["trainer.epochs=30"], []),
        ([SUITE, "env.decisions=2", "trainer.epochs=20"], []),
    ):
        outside = scope_of(learned, tiny_run.settings(*words))["outside"]
        assert len(outside) == len(says), (words, outside)
        for line, wanted in zip(outside, says, strict=True):
            assert wanted in line, words


def test_observations_beyond_the_ends_that_were_seen_are_told_in_their_units():
    learned = policy(observed=SEEN)
    inside, far = [0.5, 1.2, 0.25], [0.5, 2.0, 0.5]
    trials = [trial(inside, far), trial(inside, inside), trial([9, 9, 9], kind="fixed")]
    scope = scope_of(learned, tiny_run.settings(), trials)
    assert scope["observations"] == [
        {"observation": n, "learned": learnt, "asked": asked, "share": 0.25}
        for n, learnt, asked in (
            ("val_loss", [0.1, 1.2], [1.2, 2.0]),
            ("log_steps", [0.25, 0.25], [0.25, 0.5]),
        )
    ]
    assert scope["outside"] == [
        "val_loss 1.2 to 2 in 25 % of the decisions; learned on 0.1 to 1.2",
        "optimizer steps 100 to 10,000 in 25 % of the decisions; learned on 100",
    ]
    often = [trial(*[inside] * 99, far)]
    (line,) = scope_of(learned, tiny_run.settings(), often)["outside"]
    assert line == "val_loss, log_steps in fewer than 5 % of the decisions each"
    assert (
        "Nothing that it is asked about"
        in scope_lines(scope_of(learned, tiny_run.settings(), [trial(inside)]))[-1]
    )


def test_an_older_policy_says_that_it_does_not_know():
    old = policy()
    scope = scope_of(old, tiny_run.settings(), [trial([0, 0, 0])])
    assert scope["observations"] is None
    assert scope["outside"] == []
    first, last = scope_lines(scope)
    assert first.startswith(
        "Policy (ppo, digits, small_cnn_w8, 2 epochs) learned on digits, small_cnn_w8, 2 epochs, "
        "40 to 60 images, 0 to 30 % wrong labels; asked for digits"
    )
    assert last.startswith("It does not say which observations it has seen")


def test_what_a_stranger_wrote_about_a_policy_breaks_nothing():
    for origin in ({"worlds": 3}, {"worlds": [1, {"budget": "x"}]}, {"budget": [2]}, {}):
        made = MixPolicy(FORM, [LAYER], origin | {"observed": {"val_loss": [1], "progress": "x"}})
        scope = scope_of(made, tiny_run.settings(), [trial([5, 5, 5])])
        assert scope["observations"] == [], origin
        assert "learned on what it does not say" in scope_lines(scope)[0], origin
