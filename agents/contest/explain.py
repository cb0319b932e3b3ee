"""What a policy's choices depend on, and a small rule that copies them.

Permutation importance: Breiman 2001, "Random forests", section 10, as scikit-learn does it.
Distilling into a tree: Craven and Shavlik 1996, "Extracting tree-structured representations of
trained networks", section 3; its *fidelity* is the share of states in which both agree.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from automix.agents.contest import stats
from automix.agents.contest.rule_words import rule_text
from automix.core.files import write_json, write_text
from automix.core.seeding import derived_seed, generator
from automix.mixing.actions import MixAction
from automix.policy.policy import MixPolicy, PolicyForm
from automix.policy.rule import FORMAT, Leaf, Rule, Split

Explanation = dict[str, Any]

AGENT = "agent"
"""The contestant that is explained."""

MOST_STATES = 1000
"""States that the importance is measured on: it asks the net anew for each of them, once per
observation and repeat."""

REPEATS = 5
MOST_LEAVES = 8
DEEPEST = 4
SMALLEST_LEAF = 0.02
"""Share of the states below which a leaf would be an anecdote."""

ALONE = 0.99
"""Share of its own choices that a policy must find again from single states, to be one that
looks at nothing else. Not 1: a tie can fall to either side where numbers are summed in another
order."""

RESAMPLES = 2000


@dataclass(frozen=True)
class States:
    """What the agent saw before each of its choices on held-out tasks."""

    observations: np.ndarray
    """(n, d) float32."""
    choices: np.ndarray
    """(n,) str: what it chose, as ``MixAction`` writes it."""
    trials: np.ndarray
    """(n,) int: which trial a state is from."""
    places: np.ndarray
    """(n,) int from 0: which of an episode's choices it was."""

    def where(self, mask: np.ndarray) -> States:
        """Return the states under a mask (n,)."""
        return States(
            self.observations[mask], self.choices[mask], self.trials[mask], self.places[mask]
        )


def explain(policy: MixPolicy, trials: Sequence[Mapping[str, Any]], seed: int) -> Explanation:
    """Explain what a policy chose on held-out tasks.

    Args:
        policy: Whose choices they are.
        trials: As ``play_group`` returns them; those of the agent hold ``observations``, one
            vector for each choice, so for every ``epochs_per_action``-th entry of ``mixes``.
        seed: Of the permutations, of the halves and of the tree.

    Returns:
        ``importance`` and ``rule`` in plain types, for ``result.json``; or ``unavailable``, which
        says why there is nothing to explain.
    """
    seen = [t for t in trials if t["contestant"] == AGENT and t.get("observations")]
    if len({(trial["task"], trial["seed"]) for trial in seen}) < 2:
        return {"unavailable": "the agent was not seen on two tasks, with its observations"}
    states = _states(seen, policy.form)
    fitted = _half(seen, seed)[states.trials]
    return {
        "trials": len(seen),
        "states": len(states.choices),
        "importance": _importance(policy, states, seed),
        "rule": _distilled(policy.form, states.where(fitted), states.where(~fitted), seed),
    }


def write_rule(folder: Path, explanation: Explanation, about: Mapping[str, Any]) -> list[Path]:
    """Write ``rule.txt`` for people and ``rule.json`` for ``automix.policy.rule.load_rule``.

    Args:
        folder: The export.
        explanation: As ``explain`` returns it.
        about: Where the policy comes from.

    Returns:
        The files; none if there is no rule.
    """
    rule = explanation.get("rule")
    if rule is None:
        return []
    write_text(folder / "rule.txt", rule_text(rule))
    write_json(folder / "rule.json", {"format": FORMAT, "about": dict(about)} | rule)
    return [folder / "rule.txt", folder / "rule.json"]


def _states(trials: Sequence[Mapping[str, Any]], form: PolicyForm) -> States:
    asked = [[t["mixes"][start] for start in form.starts(len(t["mixes"]))] for t in trials]
    choices = [_on_grid(mix, form) for mixes in asked for mix in mixes]
    lengths = [len(mixes) for mixes in asked]
    return States(
        np.concatenate([np.asarray(t["observations"], dtype=np.float32) for t in trials]),
        np.array(choices),
        np.repeat(np.arange(len(trials)), lengths),
        np.concatenate([np.arange(length) for length in lengths]),
    )


def _on_grid(mix: str, form: PolicyForm) -> str:
    """Return a choice with the nearest ratio offered: a continuous policy has no two alike."""
    action = MixAction.parse(mix)
    ratios = [ratio for ratio in form.ratios if ratio > 0]
    if not action.mixes or not ratios:
        return str(action)
    return str(replace(action, ratio=min(ratios, key=lambda ratio: abs(ratio - action.ratio))))


def _half(trials: Sequence[Mapping[str, Any]], seed: int) -> np.ndarray:
    """Return for each trial whether the rule is fitted to it.

    Kinds of task are shared evenly, and all training runs of one task are in the same half.
    """
    of_trial = [(str(trial["task"]), trial["seed"]) for trial in trials]
    tasks = list(dict.fromkeys(of_trial))
    order = generator(seed, "explain", "halves").permutation(len(tasks))
    fitted = set(sorted((tasks[place] for place in order), key=lambda task: task[0])[::2])
    return np.array([task in fitted for task in of_trial])


class _PolicyEstimator:
    """A policy as scikit-learn asks it: one feature is one whole observation.

    scikit-learn permutes single columns, and the numbers of an observation such as
    ``last_method`` belong together. So a feature holds the number of the state from which the
    observation is taken, whatever its size.
    """

    def __init__(self, policy: MixPolicy, observations: np.ndarray) -> None:
        self.policy, self.observations = policy, observations

    def fit(self, rows: np.ndarray, choices: np.ndarray) -> _PolicyEstimator:
        """Do nothing: the policy is learned; scikit-learn wants the method."""
        return self

    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Return choices (n,) where observation ``k`` of state ``i`` is that of ``rows[i, k]``."""
        form = self.policy.form
        sources = np.repeat(rows, form.observation_sizes, axis=1)
        mixed = self.observations[sources, np.arange(sources.shape[1])]
        samples, _ = self.policy.predict(mixed)
        return np.array([_on_grid(str(self.policy.mix_of(one)), form) for one in samples])

    def score(self, rows: np.ndarray, choices: np.ndarray) -> float:
        """Return the share of states in which the choice is the one given."""
        return float(np.mean(self.predict(rows) == choices))


def _importance(policy: MixPolicy, states: States, seed: int) -> dict[str, Any]:
    """Return how many choices change when one observation is permuted among the states."""
    if getattr(policy, "recurrent", False):
        return {"unavailable": "the policy remembers earlier epochs, so no state alone decides"}
    # Late: a second that commands which explain nothing need not wait for.
    from sklearn.inspection import permutation_importance

    rng = generator(seed, "explain", "states")
    count = min(len(states.choices), MOST_STATES)
    picked = rng.choice(len(states.choices), count, replace=False)
    estimator = _PolicyEstimator(policy, states.observations[picked])
    names = policy.form.observations
    rows = np.tile(np.arange(count)[:, None], len(names))
    own = estimator.predict(rows)
    agreement = float(np.mean(own == states.choices[picked]))
    if agreement < ALONE:
        return {
            "unavailable": f"asked about a single state, the policy plays what it played in only "
            f"{100 * agreement:.0f} % of them, so its choice depends on earlier epochs too"
        }
    found = permutation_importance(
        estimator,
        rows,
        own,
        n_repeats=REPEATS,
        random_state=derived_seed(seed, "explain", "permutations"),
    )
    changed = zip(names, found.importances_mean, found.importances_std, strict=True)
    return {
        "states": count,
        "repeats": REPEATS,
        "observations": [
            {"observation": name, "changed": round(float(mean), 6), "std": round(float(std), 6)}
            for name, mean, std in sorted(changed, key=lambda row: -row[1])
        ],
    }


def _distilled(form: PolicyForm, fitted: States, held_out: States, seed: int) -> dict[str, Any]:
    """Fit a tree to one half of the trials; score it and two simpler copies on the other."""
    nodes = _tree(form, fitted, derived_seed(seed, "explain", "tree"))
    rule = Rule(nodes, form.observations, form.observation_sizes)
    leaves = np.array([rule.leaf(one) for one in held_out.observations])
    played = np.array([str(rule.action(one)) for one in held_out.observations])
    usual, by_epoch = _usual(fitted.choices), _by_epoch(fitted)
    each = _fidelity_by_trial(held_out, played)
    interval = stats.stratified_bootstrap(each[None], stats.mean, resamples=RESAMPLES, seed=seed)
    return {
        "observations": list(form.observations),
        "observation_sizes": [int(size) for size in form.observation_sizes],
        "parts": _part_names(form),
        "epochs": (int(held_out.places.max()) + 1) * form.epochs_per_action,
        "nodes": [_plain(n, node, leaves, held_out, played) for n, node in enumerate(nodes)],
        "fitted": {"trials": len(set(fitted.trials)), "states": len(fitted.choices)},
        "held_out": {"trials": len(each), "states": len(held_out.choices)},
        "fidelity": interval.value,
        "ci95": interval.bounds,
        "majority": {"choice": usual, "fidelity": float(np.mean(held_out.choices == usual))},
        "by_epoch": float(np.mean([by_epoch[e] for e in held_out.places] == held_out.choices)),
    }


def _tree(form: PolicyForm, states: States, seed: int) -> list[Split | Leaf]:
    from sklearn.tree import DecisionTreeClassifier

    columns = [(name, p) for name, s in _sizes(form) for p in range(s)]
    model = DecisionTreeClassifier(
        max_depth=DEEPEST,
        max_leaf_nodes=MOST_LEAVES,
        min_samples_leaf=max(1, int(SMALLEST_LEAF * len(states.choices))),
        random_state=seed,
    ).fit(states.observations, states.choices)
    tree, winners = model.tree_, model.classes_[model.tree_.value[:, 0].argmax(1)]
    nodes: list[Split | Leaf] = []

    def add(node: int) -> int:
        """Append a node with all below it; return its place."""
        place = len(nodes)
        # sklearn splits for purity too: where all below agree, the question changes nothing.
        if len(agreed := below(node)) == 1:
            nodes.append(Leaf(choice=MixAction.parse(agreed.pop())))
            return place
        name, part = columns[tree.feature[node]]
        threshold = _few_digits(tree.threshold[node], states.observations[:, tree.feature[node]])
        split = Split(observation=name, part=part, threshold=threshold, low=0, high=0)
        nodes.append(split)
        low, high = add(tree.children_left[node]), add(tree.children_right[node])
        nodes[place] = replace(split, low=low, high=high)
        return place

    def below(node: int) -> set[str]:
        """Return the choices of all leaves below a node."""
        if tree.children_left[node] < 0:
            return {str(winners[node])}
        return below(tree.children_left[node]) | below(tree.children_right[node])

    add(0)
    return nodes


def _few_digits(threshold: float, values: np.ndarray) -> float:
    """Return the shortest number that parts the values (n,) as the threshold does."""
    least, most = float(values[values <= threshold].max()), float(values[values > threshold].min())
    for digits in range(1, 9):
        if least <= (rounded := round(float(threshold), digits)) < most:
            return rounded
    return float(threshold)


def _sizes(form: PolicyForm) -> list[tuple[str, int]]:
    return list(zip(form.observations, form.observation_sizes, strict=True))


def _part_names(form: PolicyForm) -> dict[str, list[str]]:
    """Return what the numbers of the one-hot observations stand for."""
    known = {"last_method": form.methods, "last_saliency": form.saliency}
    return {
        name: list(known[name])
        for name, size in _sizes(form)
        if name in known and size == len(known[name])
    }


def _usual(choices: np.ndarray) -> str:
    return str(Counter(choices.tolist()).most_common(1)[0][0])


def _by_epoch(states: States) -> list[str]:
    """Return the most frequent choice of each epoch: the copy that looks at the clock only."""
    places = range(int(states.places.max()) + 1)
    return [_usual(states.choices[states.places == place]) for place in places]


def _fidelity_by_trial(states: States, played: np.ndarray) -> np.ndarray:
    """Return the share of equal choices in each trial, (trials,)."""
    same = states.choices == played
    return np.array([same[states.trials == trial].mean() for trial in np.unique(states.trials)])


def _plain(
    number: int, node: Split | Leaf, leaves: np.ndarray, held_out: States, played: np.ndarray
) -> dict[str, Any]:
    """Return a node as JSON holds it; a leaf with its share of the held-out states."""
    if isinstance(node, Split):
        return dict(vars(node))
    here = leaves == number
    same = held_out.choices[here] == played[here]
    return {
        "choice": str(node.choice),
        "share": float(here.mean()),
        "fidelity": float(same.mean()) if here.any() else None,
    }
