"""The report says what the run's files say: no more, no less, to anybody, in one file."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import matplotlib
import numpy as np
import pytest

from automix.agents.config.settings import CompareSettings, RunSettings
from automix.agents.contest.summary import summarise
from automix.agents.report import words, write_report
from automix.agents.report.learned import learned_of
from automix.agents.report.run_files import read_run
from automix.agents.runs.rundir import RunDirectory
from automix.core.errors import DataError
from automix.core.files import write_json
from automix.data.tasks import FamilySettings
from automix.envs.codec import ActionCodec, ActionSettings
from automix.envs.settings import EnvSettings
from automix.training.population import TrainerSettings

HELD_OUT = 2**31
EVERYBODY = (
    "agent", "none", "random", "mix_then_none", "none_then_mix", "linear_ramp", "alternating",
)  # fmt: skip


def make_run(
    path: Path,
    *,
    contestants=EVERYBODY,
    sizes=(100, 400),
    noise=(0.0, 0.3),
    seeds=6,
    epochs=8,
    updates=12,
    saliency=("off",),
    fixed=True,
) -> Path:
    """Write the files of a run that never happened, with numbers that could have been."""
    settings = RunSettings(
        task=FamilySettings(dataset="digits", train_sizes=sizes, label_noise=noise),
        trainer=TrainerSettings(epochs=epochs),
        env=EnvSettings(actions=ActionSettings(saliency=saliency)),
        compare=CompareSettings(seeds=seeds, resamples=200, contestants=contestants),
    )
    menu = [str(action) for action in ActionCodec(settings.env.actions).choices]
    names = [*contestants, *(f"fixed:{mix}" for mix in menu if mix != "none" and fixed)]
    directory = RunDirectory.create(path, settings, overwrite=True)
    rng = np.random.default_rng(0)
    trials = [
        trial
        for size in sizes
        for share in noise
        for seed in range(seeds)
        for trial in _trials(names, menu, size, share, seed, epochs, rng)
    ]
    directory.write_lines("trials.jsonl", trials)
    learned = updates * 64 * epochs if "agent" in contestants else 0
    result = summarise(trials, settings, learned, learned * 700)
    result["wall_s"], result["learning"] = 987.6, None
    if learned:
        lines = [_update(u, updates, epochs, menu, sizes, noise, rng) for u in range(updates)]
        directory.write_lines("metrics.jsonl", lines)
        result["learning"] = {"episodes": updates * 64, "updates": updates, "wall_s": 654.3}
    write_json(path / "result.json", result)
    return path


def _trials(names, menu, size, noise, seed, epochs, rng):
    level = rng.normal(0.86 + 0.03 * np.log2(size / 100) - 0.6 * noise, 0.015)
    for name in names:
        mixes = _plays(name, menu, noise, epochs, rng)
        share = np.array([_ratio(mix) * 0.8 for mix in mixes])
        gain = share.mean() * (noise - 0.06) * 1.6 + rng.normal(0, 0.008)
        gain += 0.008 * (len(set(mixes)) > 1) + 0.02 * (name == "agent")
        end = min(0.99, level + gain)
        curve = end - (end - 0.1) * np.exp(-5 * np.arange(epochs + 1) / epochs)
        curve[1:] += rng.normal(0, 0.012, epochs)
        kind = "fixed" if ":" in name or name == "none" else "schedule"
        yield {
            "contestant": name,
            "kind": name if name in ("agent", "random") else kind,
            "task": f"{size} images, {noise:.0%} noise",
            "seed": HELD_OUT + seed,
            "test_accuracy": float(end),
            "test_ece": float(0.05 + 0.3 * share.mean()),
            "test_top5": None,
            "val_accuracy": float(curve[-1]),
            "mixes": mixes,
            "val_curve": curve.round(6).tolist(),
            "partner_share": share.round(6).tolist(),
            "forward_passes": epochs * (size + 600),
            "backward_passes": epochs * size,
            "diverged": False,
        }


def _plays(name, menu, noise, epochs, rng):
    """Return one mix per epoch, as the contestant of that name would play."""
    if ":" in name:
        return [name.partition(":")[2]] * epochs
    late = [epoch / epochs >= 0.6 for epoch in range(epochs)]
    if name == "agent":
        weights = _taste(menu, noise, 1.0)
        return [
            "none" if x and rng.random() < 0.6 else str(rng.choice(menu, p=weights)) for x in late
        ]
    if name == "random":
        return [str(mix) for mix in rng.choice(menu, epochs)]
    return ["none" if name == "none" or x else menu[-1] for x in late]


def _taste(menu, noise, progress):
    """Return how much the agent likes each mix: what pays, once it has learned."""
    pays = np.array([_ratio(mix) * (noise - 0.06) * 20 + ("cutmix" in mix) for mix in menu])
    weights = np.exp(2 * progress * pays)
    return weights / weights.sum()


def _ratio(mix):
    return float(mix.partition("@")[2].partition("+")[0] or 0)


def _update(update, updates, epochs, menu, sizes, noise, rng):
    progress = (update + 1) / updates
    kinds = {}
    for _ in range(8):
        size, share = rng.choice(sizes), rng.choice(noise)
        plays = Counter(rng.choice(menu, 64, p=_taste(menu, share, progress)))
        accuracy = 0.84 + 0.03 * np.log2(size / 100) - 0.5 * share + 0.05 * progress
        kinds[f"{size} images, {share:.0%} noise"] = {
            "episodes": 8,
            "val_accuracy": float(accuracy + rng.normal(0, 0.012)),
            "play": {str(mix): n / 64 for mix, n in sorted(plays.items())},
        }
    return {
        "update": update + 1,
        "timesteps": (update + 1) * 64 * epochs,
        "episodes": (update + 1) * 64,
        "classifier_epochs": (update + 1) * 64 * epochs,
        "val_accuracy": float(np.mean([kind["val_accuracy"] for kind in kinds.values()])),
        "diverged": 0,
        "by_kind": dict(sorted(kinds.items())),
        "agent": {
            "entropy": 2.3 - 1.2 * progress + float(rng.normal(0, 0.03)),
            "approx_kl": 0.01,
            "explained_variance": None if update == 0 else 0.5 * progress,
            "value_loss": 0.2 / (1 + update),
        },
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that learned and compared; not to be written to."""
    return make_run(tmp_path_factory.mktemp("runs") / "trained")


@pytest.fixture(scope="module")
def index(trained):
    """Its page; not to be written to."""
    return write_report(trained)


@pytest.fixture
def run(trained, tmp_path):
    """A run that learned and compared, one's own."""
    without_report = shutil.ignore_patterns("report")
    return Path(shutil.copytree(trained, tmp_path / "run", ignore=without_report))


def edit(run, change):
    """Change what result.json says."""
    result = json.loads((run / "result.json").read_text())
    change(result)
    write_json(run / "result.json", result)


class Page(HTMLParser):
    """A page as a reader meets it: texts by element, and what it would load."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags, self.links, self.cells, self.labels = Counter(), [], [], []
        self.text, self.verdict, self._open = "", "", []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags[tag] += 1
        self.links += [v for k, v in attrs.items() if k in ("src", "href", "xlink:href", "data")]
        if tag in ("td", "th"):
            self.cells.append("")
            assert tag == "td" or attrs["scope"] in ("row", "col", "rowgroup")
        if tag == "svg":
            assert attrs["role"] == "img"
            self.labels.append(attrs["aria-label"])
        self._open.append("verdict" if attrs.get("class") == "verdict" else tag)

    def handle_endtag(self, tag):
        while self._open and self._open.pop() not in (tag, "verdict"):
            pass

    def handle_data(self, data):
        self.text += data
        if "verdict" in self._open:
            self.verdict += data
        if {"td", "th"} & set(self._open):
            self.cells[-1] += data


def verdict_of(run):
    found = read_run(run)
    return words.verdict(found, words.view_of(found))


def page_of(run):
    return Page(write_report(run))


@pytest.mark.parametrize(
    ("mean", "low", "high", "says"),
    [
        (0.021, 0.013, 0.029, "beats random choice by 2.1 points [1.3, 2.9]"),
        (-0.021, -0.029, -0.013, "loses to random choice by 2.1 points [1.3, 2.9]"),
        (0.001, -0.004, 0.006, "is not told apart from random choice: +0.1 points [−0.4, +0.6]"),  # noqa: RUF001
        (0.004, 0.0002, 0.009, "beats random choice by 0.40 points [0.02, 0.90]"),
        (0.0, 0.0, 0.0, "is not told apart from random choice: 0.0 points [0.0, 0.0]"),
    ],
)
def test_the_verdict_follows_the_interval(run, mean, low, high, says):
    def change(result):
        random = result["agent_minus"]["random"]
        result["agent_minus"] = {"random": random | {"mean": mean, "ci95": [low, high]}}

    edit(run, change)
    assert verdict_of(run) == f"The agent {says}."


def test_the_verdict_is_one_sentence_about_the_three_who_matter(run):
    def change(result):
        result["best_fixed"] = "fixed:cutmix@0.5"
        for name, mean in (("none", 0.073), ("random", 0.021), ("fixed:cutmix@0.5", 0.001)):
            result["agent_minus"][name] |= {"mean": mean, "ci95": [mean - 0.01, mean + 0.01]}

    edit(run, change)
    assert verdict_of(run) == (
        "The agent beats no mixing by 7.3 points [6.3, 8.3] and random choice by 2.1 points "
        "[1.1, 3.1]; it is not told apart from the best fixed choice (cutmix@0.5, picked on "
        "validation): +0.1 points [−0.9, +1.1]."  # noqa: RUF001
    )


def test_when_not_mixing_is_the_best_fixed_choice_it_is_named_once(run):
    edit(run, lambda result: result.update(best_fixed="none"))
    verdict = verdict_of(run)
    assert "no mixing (the best fixed choice, picked on validation)" in verdict
    assert verdict.count("no mixing") == verdict.count("best fixed") == 1


def test_the_losses_are_named_beside_the_verdict(run):
    def change(result):
        for difference in result["agent_minus"].values():
            difference |= {"mean": 0.01, "ci95": [0.005, 0.015]}
        result["agent_minus"]["linear_ramp"] |= {"mean": -0.01, "ci95": [-0.015, -0.005]}

    edit(run, change)
    found = read_run(run)
    tally = words.tally(words.view_of(found))
    assert tally == "Of all 15 others it beats 14 and loses to 1 (linear_ramp)."


def test_every_contestant_and_task_has_its_numbers_in_the_table(trained, index):
    page = Page(index)
    cells = [cell.replace("\n", " ").strip() for cell in page.cells]
    result = json.loads((trained / "result.json").read_text())
    for contestant in result["contestants"]:
        assert any(
            cell.split()[:1] == [contestant["name"].removeprefix("fixed:")] for cell in cells
        )
        assert any(cell.startswith(f"{100 * contestant['iqm']:.1f} [") for cell in cells)
        for task, mean in contestant["by_task"].items():
            assert task in cells
            assert f"{100 * mean:.1f}" in cells


def test_the_verdict_n_and_seeds_are_on_the_page(trained, index):
    page = Page(index)
    text = page.text
    assert page.verdict == verdict_of(trained)
    assert "4 kinds of held-out task × 6 seeds (2147483648–2147483653) = 24 trainings" in text  # noqa: RUF001


@pytest.mark.parametrize(("seeds", "warned"), [(5, True), (6, False)])
def test_too_few_seeds_for_significance_are_admitted(tmp_path, seeds, warned):
    run = make_run(tmp_path / "run", sizes=(100,), noise=(0.0,), seeds=seeds, updates=2)
    page = page_of(run)
    assert ("cannot give a p below 0.0625" in page.text) == warned
    too_few = "No difference can be told from 5 seeds: 6 or more are needed."
    assert page.verdict.endswith(too_few) == warned
    assert (not warned) or "beats" not in page.verdict


def test_diverged_trainings_are_admitted(run):
    edit(run, lambda result: result["contestants"][0].update(diverged=3))
    assert "Trainings that diverged, out of 24 each: " in page_of(run).text


def test_every_figure_says_in_words_what_it_shows_and_is_a_file_too(index):
    page = Page(index)
    files = sorted(index.parent.glob("*.svg"))
    assert len(page.labels) == len(files) == page.tags["svg"] > 15
    assert all(len(label) > 20 for label in page.labels)
    assert page.tags["figcaption"] == page.tags["figure"]


def test_the_page_loads_nothing_and_runs_nothing(index):
    page, text = Page(index), index.read_text()
    assert not {"script", "link", "iframe", "img", "object", "embed"} & set(page.tags)
    assert all(link.startswith("#") for link in page.links)
    assert all(target.startswith("#") for target in re.findall(r"url\((.)", text))
    assert "@import" not in text
    assert "://" not in text


def test_ids_on_the_page_are_unique(index):
    ids = re.findall(r'\sid="([^"]+)"', index.read_text())
    assert len(ids) == len(set(ids))


def test_dark_and_light_readers_get_their_own_colours(index):
    text = index.read_text()
    assert "prefers-color-scheme: dark" in text
    body = text[text.index("<body>") :]
    assert not re.search("#[0-9a-f]{6}(?![0-9a-f])", body)
    assert set(re.findall(r"var\((--[a-z0-9-]+)\)", body)) <= set(re.findall(r"(--[\w-]+):", text))


def test_a_hostile_run_name_is_shown_and_not_obeyed(run):
    run = run.rename(run.with_name("<script>alert('&')"))
    (run / "command.txt").write_text("python run.py train name='<img src=x onerror=alert(1)>'\n")
    page = page_of(run)
    assert not {"script", "img"} & set(page.tags)
    assert "<script>alert('&')" in page.text
    assert "<img src=x onerror=alert(1)>" in page.text


def test_a_hostile_task_name_is_shown_and_not_obeyed(run):
    for name in ("result.json", "trials.jsonl", "metrics.jsonl"):
        text = (run / name).read_text()
        (run / name).write_text(text.replace("100 images", r"$\\frac{</text><script>\" &amp;"))
    page = page_of(run)
    assert "script" not in page.tags
    assert '$\\frac{</text><script>" &amp;, 0% noise' in page.text


def test_equal_runs_give_equal_bytes(trained, index, run):
    again = write_report(run.rename(run.with_name(trained.name)))
    files = {path.name: path.read_bytes() for path in index.parent.iterdir()}
    assert files == {path.name: path.read_bytes() for path in again.parent.iterdir()}


def test_figures_of_an_earlier_report_go_and_other_files_stay(run):
    (run / "report").mkdir(exist_ok=True)
    for name in ("played-99.svg", "notes.txt"):
        (run / "report" / name).write_text("old")
    write_report(run)
    assert not (run / "report" / "played-99.svg").exists()
    assert (run / "report" / "notes.txt").read_text() == "old"


def test_a_run_without_agent_measures_the_best_fixed_choice(tmp_path):
    page = page_of(make_run(tmp_path / "run", contestants=("none", "random")))
    assert page.verdict.startswith("No agent played. The best fixed choice (")
    assert "What the agent learned" not in page.text
    assert "Learning curve" not in page.text


def test_a_run_without_agent_and_fixed_choice_names_the_highest_score(tmp_path):
    run = make_run(tmp_path / "run", contestants=("random", "linear_ramp"), fixed=False)
    page = page_of(run)
    assert page.verdict.startswith("No agent and no fixed choice played; the highest score has")
    assert "minus" not in page.text


def test_an_agent_that_learned_elsewhere_is_shown_without_learning_curves(run):
    (run / "metrics.jsonl").unlink()
    edit(run, lambda result: result.update(learning=None))
    page = page_of(run)
    assert "What the agent learned" in page.text
    assert "Learning curve" not in page.text


def test_guided_mixes_are_hatched_and_long_runs_stay_small(tmp_path):
    run = make_run(
        tmp_path / "run",
        noise=(0.3,),
        seeds=2,
        epochs=200,
        updates=300,
        saliency=("off", "gradient", "spectral"),
    )
    page = write_report(run)
    assert "<pattern" in page.read_text()
    assert "guided by saliency" in page.read_text()
    assert page.stat().st_size < 1_000_000


@pytest.mark.parametrize(
    "name", ["result.json", "trials.jsonl", "config.yaml", "command.txt", "env.json"]
)
def test_a_missing_file_is_named(run, name):
    (run / name).unlink()
    with pytest.raises(DataError, match=re.escape(f"has no {name}")) as caught:
        write_report(run)
    assert caught.value.hint


def test_a_missing_result_says_how_to_get_one(run):
    (run / "result.json").unlink()
    with pytest.raises(DataError) as caught:
        write_report(run)
    assert "run `python run.py compare` first" in caught.value.hint


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(DataError, match="nowhere is not a directory"):
        write_report(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["result.json", "trials.jsonl", "metrics.jsonl", "env.json"])
@pytest.mark.parametrize("damage", ['{"update": 1', "[]", "7", "\0"])
def test_a_damaged_file_is_named(run, name, damage):
    (run / name).write_text(damage)
    with pytest.raises(DataError, match=re.escape(name)):
        write_report(run)


def test_a_damaged_line_is_named_by_number(run):
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], lines[2][:40]]))
    with pytest.raises(DataError, match=r"metrics\.jsonl:3 is not JSON"):
        write_report(run)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r["contestants"][2].pop("iqm"), r"contestants\[2\]: iqm is missing"),
        (lambda r: r["contestants"][0].update(ci95=[1]), r"ci95 is \[1\], wanted \[low, high\]"),
        (lambda r: r["contestants"][0].update(iqm="much"), "'much', wanted a finite number"),
        (lambda r: r["contestants"][0]["by_task"].popitem(), "by_task lacks"),
        (lambda r: r["seeds"].pop(), "wanted one for each of the 5 seeds"),
        (lambda r: r["tasks"].append("7 images"), "7 images"),
        (lambda r: r.update(best_fixed="fixed:magic@0.5"), "who did not play"),
        (lambda r: r["agent_minus"].update(ghost=r["agent_minus"]["none"]), "ghost"),
    ],
)
def test_a_result_that_does_not_fit_is_explained(run, change, says):
    edit(run, change)
    with pytest.raises(DataError, match=says):
        write_report(run)


def test_a_trial_of_another_length_is_explained(run):
    path = run / "trials.jsonl"
    first, *rest = path.read_text().splitlines()
    trial = json.loads(first)
    trial["mixes"].pop()
    path.write_text("\n".join([json.dumps(trial), *rest]))
    with pytest.raises(DataError, match=r"trials\.jsonl:1: 7 mixes, 8 partner shares"):
        write_report(run)


def test_drawing_neither_reads_nor_moves_the_callers_matplotlib(index, run):
    with matplotlib.rc_context({"font.size": 30.0, "axes.grid": False, "savefig.bbox": "tight"}):
        before = dict(matplotlib.rcParams)
        again = write_report(run)
        assert dict(matplotlib.rcParams) == before
    name = "scores.svg"
    assert (again.parent / name).read_bytes() == (index.parent / name).read_bytes()


def test_importing_the_report_does_not_import_matplotlib():
    code = "import sys, automix.agents.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


EXPLANATION = {
    "trials": 24,
    "states": 192,
    "importance": {
        "states": 192,
        "repeats": 5,
        "observations": [
            {"observation": "progress", "changed": 0.412, "std": 0.02},
            {"observation": "val_loss", "changed": 0.07, "std": 0.01},
            {"observation": "last_method", "changed": 0.0, "std": 0.0},
        ],
    },
    "rule": {
        "observations": ["progress", "val_loss", "last_method"],
        "observation_sizes": [1, 1, 4],
        "parts": {"last_method": ["none", "mixup", "cutmix", "rmix"]},
        "epochs": 8,
        "nodes": [
            {"observation": "progress", "part": 0, "threshold": 0.55, "low": 1, "high": 2},
            {"choice": "cutmix@0.5", "share": 0.625, "fidelity": 0.97},
            {"observation": "last_method", "part": 3, "threshold": 0.5, "low": 3, "high": 4},
            {"choice": "none", "share": 0.3, "fidelity": 0.8},
            {"choice": "rmix@0.5", "share": 0.0, "fidelity": None},
        ],
        "fitted": {"trials": 12, "states": 96},
        "held_out": {"trials": 12, "states": 96},
        "fidelity": 0.913,
        "ci95": [0.87, 0.95],
        "majority": {"choice": "cutmix@0.5", "fidelity": 0.61},
        "by_epoch": 0.88,
    },
}


def explained(run, change=lambda explanation: None):
    """Put an explanation into a run."""
    explanation = copy.deepcopy(EXPLANATION)
    change(explanation)
    edit(run, lambda result: result.update(explanation=explanation))
    return run


def test_the_rule_and_what_it_depends_on_are_told_in_words(run):
    page = page_of(explained(run))
    text = " ".join(page.text.split())
    assert "depends most on the share of epochs done (41 %) and validation loss (7 %)" in text
    assert "1 of the 3 change less than 1 % each" in text
    assert "if at most 55 % of the epochs are done (epoch 1 to 5 of 8): play cutmix@0.5" in text
    assert (
        "otherwise, if the last method was rmix: play rmix@0.5 no held-out epoch comes here" in text
    )
    assert "otherwise: play none 30 % of choices, agrees in 80 %" in text
    assert "what the agent chose in 91 % [95 % interval 87 % to 95 %] of 96 choices" in text
    assert "agrees in 61 %; the most frequent choice of each epoch" in text
    assert (run / "report" / "importance.svg").is_file()
    assert any("progress 41 %, val_loss 7 %, last_method 0 %" in label for label in page.labels)
    assert page.tags["figcaption"] == page.tags["figure"]


def test_what_is_played_is_a_table_too(trained, index):
    plays = [json.loads(line) for line in (trained / "trials.jsonl").read_text().splitlines()]
    plays = [t for t in plays if t["contestant"] == "agent" and t["task"] == "100 images, 0% noise"]
    first = [trial["mixes"][0] for trial in plays]
    mix, count = Counter(first).most_common(1)[0]
    cells = [cell.strip() for cell in Page(index).cells]
    row = cells.index("most frequent mix") + 4
    assert cells[row] == "100 images, 0% noise"
    assert cells[row + 2] == mix
    if cells[row + 1] == "1":  # this epoch alone, so its own numbers
        assert cells[row + 3] == f"{100 * count / len(plays):.0f} %"
        assert cells[row + 4] == f"{np.mean([_ratio(mix) for mix in first]):.2f}"


def test_epochs_with_the_same_mix_are_one_line(run):
    path = run / "trials.jsonl"
    trials = [json.loads(line) for line in path.read_text().splitlines()]
    for trial in trials:
        if trial["contestant"] == "agent":
            trial["mixes"] = ["cutmix@0.5"] * 5 + ["none"] * 3
            trial["partner_share"] = [0.4] * 5 + [0.0] * 3
            if trial["seed"] == HELD_OUT:  # one of six begins without
                trial["mixes"][0] = "none"
    path.write_text("\n".join(json.dumps(trial) for trial in trials))
    found = learned_of(read_run(run))
    task, stretches = found.plays[0]
    assert task == "100 images, 0% noise"
    rows = [(s.epochs, s.mix, s.share, s.ratio, s.realised) for s in stretches]
    assert rows == [
        (f"1{words.DASH}5", "cutmix@0.5", "97 %", "0.48", "0.40"),
        (f"6{words.DASH}8", "none", "100 %", "0.00", "0.00"),
    ]


def test_runs_without_an_explanation_show_the_rest(trained, index):
    assert "explanation" not in json.loads((trained / "result.json").read_text())
    text = Page(index).text
    assert "What the agent learned" in text
    assert "As a rule" not in text
    assert "What its choice depends on" not in text


@pytest.mark.parametrize("reason", ["importance", "all"])
def test_what_is_not_available_is_said_or_left_out(run, reason):
    def change(explanation):
        if reason == "all":
            explanation.clear()
            explanation["unavailable"] = "fewer than two trials"
        else:
            explanation["importance"] = {"unavailable": "its choice depends on earlier epochs too"}

    text = page_of(explained(run, change)).text
    assert ("Not available: its choice depends on earlier epochs too." in text) == (reason != "all")
    assert ("Its choices as a rule" in text) == (reason != "all")
    assert not (run / "report" / "importance.svg").exists()


def test_a_hostile_observation_is_shown_and_not_obeyed(run):
    name = "</text><script>alert('&')</script>"

    def change(explanation):
        explanation["importance"]["observations"][0]["observation"] = name
        explanation["rule"]["nodes"][0]["observation"] = name
        explanation["rule"]["observations"][0] = name
        explanation["rule"]["parts"]["last_method"][3] = "<img src=x>"

    page = page_of(explained(run, change))
    assert not {"script", "img"} & set(page.tags)
    assert f"if {name} is at most 0.55" in page.text
    assert "if the last method was <img src=x>" in page.text


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda e: e["rule"]["nodes"][1].update(choice="<b>"), "explanation: rule.*'<b>'"),
        (lambda e: e["rule"]["nodes"][0].update(low=0), "leads to 0"),
        (lambda e: e["rule"].pop("fidelity"), "rule: fidelity is missing"),
        (lambda e: e["rule"].update(parts=[]), "explanation: rule: parts"),
        (lambda e: e["rule"]["parts"].update(last_method=7), "parts.last_method"),
        (lambda e: e["rule"]["majority"].pop("choice"), "majority: choice is missing"),
        (lambda e: e["importance"]["observations"][0].update(changed="much"), "changed is 'much'"),
        (lambda e: e.pop("importance"), "importance is missing"),
    ],
)
def test_a_damaged_explanation_is_explained(run, change, says):
    with pytest.raises(DataError, match=says):
        write_report(explained(run, change))
