"""What an explanation says of a policy is true of policies whose choices are known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from automix.agents.contest.explain import MOST_LEAVES, explain, write_rule
from automix.agents.contest.rule_words import rule_lines, rule_text
from automix.core.errors import DataError
from automix.policy.policy import MixPolicy, PolicyForm
from automix.policy.rule import load_rule, rule_of
from tests.cases import each

NAMES = ("progress", "val_loss", "accuracy_gap", "last_method", "last_ratio")
METHODS = ("none", "mixup", "cutmix")
SIZES = (1, 1, 1, len(METHODS), 1)
CHOICES = ("none", "mixup@0.5", "cutmix@0.5")
EPOCHS = 20
FORM = PolicyForm(
    observations=NAMES,
    observation_sizes=SIZES,
    methods=METHODS,
    ratios=(0.5,),
    saliency=("off",),
    space="flat",
    choices=CHOICES,
)


def linear(weights: dict[int, list[float]], bias: list[float]) -> MixPolicy:
    """A net without hidden layers: weights of the three choices by observation column."""
    matrix = np.zeros((len(CHOICES), sum(SIZES)), dtype=np.float32)
    for column, values in weights.items():
        matrix[:, column] = values
    return MixPolicy(FORM, [(matrix, np.asarray(bias, dtype=np.float32))], {})


class Chooses:
    """Stands for a net that is a function, for choices that no small net makes."""

    memory = None

    def __init__(self, choose):
        self.choose = choose

    def __call__(self, observations, state=None, starts=None):
        picked = [CHOICES.index(self.choose(one)) for one in observations]
        return np.eye(len(CHOICES))[picked], None


class Obeys(MixPolicy):
    """A policy with such a net."""

    def __init__(self, choose):
        super().__init__(FORM, linear({}, [0, 0, 0]).layers, {})
        self.net = Chooses(choose)


def trials_of(policy, trials=12, seed=0, kinds=3):
    """Play a policy in a world where everything but progress and the last choice is noise."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(trials):
        seen, mixes, last = [], [], np.zeros(4)
        for epoch in range(EPOCHS):
            noise = [rng.uniform(0, 2), rng.uniform(-0.3, 0.3)]
            seen.append(np.array([epoch / EPOCHS, *noise, *last], dtype=np.float32))
            mixes.append(str(policy.action(seen[-1])))
            last = np.array([*(m == mixes[-1].partition("@")[0] for m in METHODS), 0.5])
        found.append(
            {
                "contestant": "agent",
                "kind": "agent",
                "task": f"{100 * (number % kinds + 1)} images, 0% noise",
                "seed": number,
                "mixes": mixes,
                "observations": [one.tolist() for one in seen],
            }
        )
    return found


@pytest.fixture(scope="module")
def tree():
    """What is said of TREE; not to be changed."""
    return explain(TREE, trials_of(TREE, trials=60), seed=0)


@pytest.fixture
def export(tree, tmp_path):
    """The rule of TREE, written."""
    write_rule(tmp_path, tree, {"agent": "ppo"})
    return tmp_path


def importance(explanation):
    rows = explanation["importance"]["observations"]
    return {row["observation"]: row["changed"] for row in rows}


CLOCK = linear({0: [1, 0, 0]}, [0, -9, 0.52])
"""cutmix until progress passes 0.52, then none."""

TREE = Obeys(
    lambda o: (
        ("mixup@0.5" if o[1] <= 0.8 else "cutmix@0.5")
        if o[0] <= 0.42
        else ("none" if o[2] <= 0.1 else "cutmix@0.5")
    )
)


def test_a_policy_that_looks_at_the_clock_depends_on_the_clock():
    found = importance(explain(CLOCK, trials_of(CLOCK), seed=0))
    # 11 of 20 epochs play cutmix: a shuffled clock shows the other side in 2 * 0.55 * 0.45.
    assert found.pop("progress") == pytest.approx(0.495, abs=0.06)
    assert found == dict.fromkeys(NAMES[1:], 0.0)


def test_the_numbers_of_a_vector_are_permuted_together():
    """The policy sees whether last_method is a one-hot: never broken, so never another choice."""
    whole = Obeys(lambda o: "none" if o[3:6].sum() in (0.0, 1.0) else "cutmix@0.5")
    trials = trials_of(whole)
    rng = np.random.default_rng(1)
    for trial in trials:
        for one in trial["observations"]:
            one[3:6] = np.eye(3)[rng.integers(3)].tolist()
    apart = np.array([one for trial in trials for one in trial["observations"]])
    apart[:, 4] = rng.permutation(apart[:, 4])
    assert {str(whole.action(one)) for one in apart} == {"none", "cutmix@0.5"}
    assert importance(explain(whole, trials, seed=0))["last_method"] == 0.0


def test_a_vector_counts_as_a_whole():
    """Choosing by the last method, three ways: a shuffle meets another method in 2 of 3 cases."""
    after = {0: "mixup@0.5", 1: "cutmix@0.5", 2: "none"}
    policy = Obeys(lambda o: after[int(np.argmax(o[3:6]))])
    trials = trials_of(policy, trials=30)
    found = importance(explain(policy, trials, seed=0))
    assert found.pop("last_method") == pytest.approx(2 / 3, abs=0.05)
    assert set(found.values()) == {0.0}


def test_a_policy_that_remembers_has_no_importance_but_a_rule():
    trials = trials_of(CLOCK)
    for trial in trials[::2]:
        trial["mixes"] = ["mixup@0.5"] * EPOCHS
    found = explain(CLOCK, trials, seed=0)
    assert "depends on earlier epochs" in found["importance"]["unavailable"]
    assert found["rule"]["fidelity"] < 1


def test_a_recurrent_policy_is_not_asked_about_single_states():
    class Remembers(Obeys):
        recurrent = True

        def action(self, observation):
            raise ValueError

    found = explain(Remembers(lambda o: "none"), trials_of(CLOCK), seed=0)
    assert "remembers earlier epochs" in found["importance"]["unavailable"]
    assert found["rule"]["fidelity"] == 1.0


def test_a_policy_that_is_a_tree_is_found_again(tree):
    found = tree["rule"]
    splits = {n["observation"]: n["threshold"] for n in found["nodes"] if "threshold" in n}
    assert set(splits) == {"progress", "val_loss", "accuracy_gap"}
    assert 0.40 <= splits["progress"] < 0.45  # the epochs at either side
    assert splits["val_loss"] == pytest.approx(0.8, abs=0.03)
    assert splits["accuracy_gap"] == pytest.approx(0.1, abs=0.03)
    assert len(found["nodes"]) == 7
    changed = importance(tree)
    assert list(changed.values()) == sorted(changed.values(), reverse=True)
    assert set(list(changed)[:3]) == set(splits)
    assert found["fidelity"] > 0.99
    assert found["fidelity"] > found["by_epoch"] > found["majority"]["fidelity"]


def test_a_tree_of_known_steps_is_copied_exactly():
    """On a grid of values no state lies between the found threshold and the true one."""
    policy = Obeys(
        lambda o: (
            ("mixup@0.5" if o[1] <= 1 else "cutmix@0.5")
            if o[0] < 0.5
            else ("none" if o[1] <= 1 else "mixup@0.5")
        )
    )
    trials = trials_of(policy)
    for trial in trials:
        for one in trial["observations"]:
            one[1] = float(np.round(one[1] * 4) / 4)
        trial["mixes"] = [str(policy.action(np.array(one))) for one in trial["observations"]]
    rule = explain(policy, trials, seed=0)["rule"]
    assert rule["fidelity"] == 1.0
    assert rule["ci95"] == [1.0, 1.0]
    assert {leaf["fidelity"] for leaf in rule["nodes"] if "choice" in leaf} == {1.0}
    assert sum(leaf["share"] for leaf in rule["nodes"] if "choice" in leaf) == pytest.approx(1.0)


def test_fidelity_and_baselines_are_of_trials_that_the_rule_has_not_seen():
    found = explain(CLOCK, trials_of(CLOCK, trials=9), seed=0)["rule"]
    assert found["fitted"] == {"trials": 5, "states": 100}
    assert found["held_out"] == {"trials": 4, "states": 80}
    assert found["majority"] == {"choice": "cutmix@0.5", "fidelity": pytest.approx(0.55)}
    assert found["by_epoch"] == 1.0


def test_a_policy_that_always_does_the_same_is_one_line():
    same = linear({}, [0, 0, 1])
    found = explain(same, trials_of(same), seed=0)
    assert set(importance(found).values()) == {0.0}
    assert [n["choice"] for n in found["rule"]["nodes"]] == ["cutmix@0.5"]
    assert [line.text for line in rule_lines(found["rule"])] == ["always play cutmix@0.5"]


def test_a_rule_stays_small_and_asks_nothing_in_vain():
    rng = np.random.default_rng(0)
    wild = MixPolicy(
        FORM,
        [
            (rng.normal(size=(16, 7)).astype(np.float32) * 4, np.zeros(16, np.float32)),
            (rng.normal(size=(3, 16)).astype(np.float32), np.zeros(3, np.float32)),
        ],
        {},
    )
    nodes = explain(wild, trials_of(wild, trials=20), seed=0)["rule"]["nodes"]
    assert 2 < len([n for n in nodes if "choice" in n]) <= MOST_LEAVES
    for node in nodes:
        if "threshold" in node:
            pair = [nodes[node["low"]].get("choice"), nodes[node["high"]].get("choice")]
            assert pair[0] is None or pair[0] != pair[1]


def test_ratios_of_a_continuous_policy_are_told_by_the_nearest_of_the_menu():
    trials = trials_of(CLOCK)
    rng = np.random.default_rng(0)
    for trial in trials:
        trial["mixes"] = [
            m.replace("@0.5", f"@{rng.uniform(0.4, 0.5):.3f}") for m in trial["mixes"]
        ]
    rule = explain(CLOCK, trials, seed=0)["rule"]
    assert {n["choice"] for n in rule["nodes"] if "choice" in n} == {"none", "cutmix@0.5"}


def test_equal_seeds_explain_equally_and_in_plain_types():
    trials = trials_of(TREE)
    found = explain(TREE, trials, seed=3)
    assert json.loads(json.dumps(found)) == found == explain(TREE, trials, seed=3)
    assert found != explain(TREE, trials, seed=4)


@each("damage", ["observations", "contestant", "all"])
def test_without_states_there_is_no_explanation(damage, tmp_path):
    trials = [] if damage == "all" else trials_of(CLOCK)
    for trial in trials:
        if damage == "observations":
            del trial["observations"]
        else:
            trial["contestant"] = "none"
    found = explain(CLOCK, trials, seed=0)
    assert list(found) == ["unavailable"]
    assert write_rule(tmp_path, found, {}) == []
    assert not list(tmp_path.iterdir())


def test_a_rule_that_is_read_again_plays_as_the_tree(export):
    rule = load_rule(export)
    trials = trials_of(TREE, trials=20, seed=9)
    states = [np.array(one) for trial in trials for one in trial["observations"]]
    assert np.mean([rule.action(one) == TREE.action(one) for one in states]) > 0.98
    content = json.loads((export / "rule.json").read_text())
    assert content["about"] == {"agent": "ppo"}
    for one in states:
        node = content["nodes"][0]
        while "choice" not in node:
            low = one[NAMES.index(node["observation"])] <= node["threshold"]
            node = content["nodes"][node["low" if low else "high"]]
        assert str(rule.action(one)) == node["choice"]


def test_a_rule_is_told_in_units(export):
    text = (export / "rule.txt").read_text()
    assert "if at most 42 % of the epochs are done (epoch 1 to 9 of 20):" in text
    assert "    if validation loss is at most 0.8" in text
    assert "        play mixup@0.5   [" in text
    assert "otherwise, if training minus validation accuracy is at most +1" in text
    assert text.count("otherwise") == 3
    assert max(map(len, text.splitlines())) <= 100


def test_a_one_hot_is_told_by_the_name_of_its_number():
    policy = Obeys(lambda o: "none" if o[5] else "cutmix@0.5")
    text = rule_text(explain(policy, trials_of(policy), seed=0)["rule"])
    assert "if the last method was cutmix:\n    play none" in text
    assert "otherwise:\n    play cutmix@0.5" in text


def test_an_answer_comes_before_a_further_question():
    """However the tree is turned: what is asked later is indented less often so."""
    content = {
        "observations": ["progress"],
        "observation_sizes": [1],
        "parts": {},
        "epochs": 10,
        "nodes": [
            {"observation": "progress", "part": 0, "threshold": 0.5, "low": 1, "high": 4},
            {"observation": "progress", "part": 0, "threshold": 0.25, "low": 2, "high": 3},
            {"choice": "none"},
            {"choice": "mixup@0.5"},
            {"choice": "cutmix@0.5"},
        ],
    }
    assert [(line.text, line.below[0].text) for line in rule_lines(content)] == [
        ("if more than 50 % of the epochs are done (epoch 7 to 10 of 10)", "play cutmix@0.5"),
        (
            "otherwise, if at most 25 % of the epochs are done (epoch 1 to 3 of 10)",
            "play none",
        ),
        ("otherwise", "play mixup@0.5"),
    ]


def test_a_vector_entry_after_another_vector_is_asked_at_its_own_place():
    content = {
        "observations": ["progress", "last_method", "last_ratio"],
        "observation_sizes": [1, 3, 1],
        "nodes": [
            {"observation": "last_ratio", "part": 0, "threshold": 0.1, "low": 1, "high": 2},
            {"choice": "none"},
            {"choice": "cutmix@0.5"},
        ],
    }
    rule = rule_of(content, "here")
    assert str(rule.action(np.array([0, 0, 0, 0, 0.5]))) == "cutmix@0.5"
    assert str(rule.action(np.array([1, 1, 1, 1, 0.0]))) == "none"


def test_a_damaged_or_missing_rule_is_explained(export, tmp_path):
    text = (export / "rule.json").read_text()
    for change, says in (
        (lambda c: c.update(format=9), "format is 9, wanted 1"),
        (lambda c: c.pop("nodes"), "does not describe a rule"),
        (lambda c: c["nodes"].clear(), "no nodes"),
        (lambda c: c["nodes"][0].update(low=0), "leads to 0 and"),
        (lambda c: c["nodes"][0].update(high=99), "and 99, wanted nodes from 1 to 6"),
        (lambda c: c["nodes"][0].update(observation="mood"), "number 0 of 'mood'"),
        (lambda c: c["nodes"][0].update(part=1), "number 1 of"),
        (lambda c: c["nodes"][0].update(threshold=float("nan")), "finite"),
        (lambda c: c["nodes"][-1].update(choice="magic@0.5"), "magic"),
        (lambda c: c.update(observation_sizes=[1]), "does not describe a rule"),
        (lambda c: c.update(nodes="none"), "does not describe a rule"),
    ):
        content = json.loads(text)
        change(content)
        (tmp_path / "rule.json").write_text(json.dumps(content))
        with pytest.raises(DataError, match=says) as caught:
            load_rule(tmp_path)
        assert "rule.json" in caught.value.message
    with pytest.raises(DataError, match=r"rule\.json"):
        load_rule(tmp_path / "nowhere")
