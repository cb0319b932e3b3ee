"""The report shows what the run's files say: no more, no less, to anybody, in one file."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import matplotlib

from automix.agents.report import write_report
from tests.agents.report.made_run import edit, make_run
from tests.agents.report.pages import Page, page_of, verdict_of


def test_every_contestant_and_task_has_its_numbers_in_the_table(trained, index):
    page = Page(index)
    cells = [cell.replace("\n", " ").strip() for cell in page.cells]
    result = json.loads((trained / "result.json").read_text())
    for contestant in result["contestants"]:
        name = contestant["name"].removeprefix("fixed:")
        assert any(cell.split()[:1] == [name] for cell in cells)
        assert any(cell.startswith(f"{100 * contestant['iqm']:.1f} [") for cell in cells)
        for task, mean in contestant["by_task"].items():
            assert task in cells
            assert f"{100 * mean:.1f}" in cells


def test_the_verdict_n_and_seeds_are_on_the_page(trained, index):
    page = Page(index)
    assert page.verdict == verdict_of(trained)
    scope = "4 kinds of held-out task × 6 seeds (2147483648–2147483653) = 24 training runs each"  # noqa: RUF001
    assert scope in page.text


def test_too_few_seeds_and_diverged_training_runs_are_admitted(tmp_path):
    for seeds, warned in (5, True), (6, False):
        run = make_run(tmp_path / f"{seeds}", sizes=(100,), noise=(0.0,), seeds=seeds, updates=2)
        if warned:
            edit(run, lambda result: result["contestants"][0].update(diverged=3))
        page = page_of(run)
        assert ("cannot give a p below 0.0625" in page.text) == warned
        too_few = "5 seeds cannot show a difference: 6 or more are needed."
        assert page.verdict.endswith(too_few) == warned
        assert (not warned) or "beats" not in page.verdict
        assert ("Training runs that diverged, out of 5 each: " in page.text) == warned


def test_what_was_loaded_and_what_to_know_of_it_are_on_the_page(tmp_path):
    run = make_run(tmp_path / "run", sizes=(100,), noise=(0.0,), updates=2)
    assert "Images:" not in page_of(run).text  # as in runs of earlier versions
    images = {
        "name": "pets",
        "loaded": "pets: 6 images, 5x4, RGB",
        "warnings": ["2 of 3 test images are <b>"],
    }
    edit(run, lambda result: result.update(images=[images]))
    text = page_of(run).text
    assert "Images: pets: 6 images, 5x4, RGB." in text
    assert "Images: 2 of 3 test images are <b>." in text
    assert "is trained on pets for" in " ".join(text.split())


def test_every_figure_says_in_words_what_it_shows_and_is_a_file_too(index):
    page = Page(index)
    files = sorted(index.parent.glob("*.svg"))
    assert len(page.labels) == len(files) == page.tags["svg"] > 15
    assert all(len(label) > 20 for label in page.labels)
    assert page.tags["figcaption"] == page.tags["figure"]


def test_the_page_loads_nothing_runs_nothing_and_has_unique_ids(index):
    page, text = Page(index), index.read_text()
    assert not {"script", "link", "iframe", "img", "object", "embed"} & set(page.tags)
    assert all(link.startswith("#") for link in page.links)
    assert all(target.startswith("#") for target in re.findall(r"url\((.)", text))
    assert "@import" not in text
    assert "://" not in text
    ids = re.findall(r'\sid="([^"]+)"', text)
    assert len(ids) == len(set(ids))


def test_dark_and_light_readers_get_their_own_colours(index):
    text = index.read_text()
    assert "prefers-color-scheme: dark" in text
    body = text[text.index("<body>") :]
    assert not re.search("#[0-9a-f]{6}(?![0-9a-f])", body)
    assert set(re.findall(r"var\((--[a-z0-9-]+)\)", body)) <= set(re.findall(r"(--[\w-]+):", text))


def test_hostile_names_are_shown_and_not_obeyed(run):
    run = run.rename(run.with_name("<script>alert('&')"))
    (run / "command.txt").write_text("python run.py train name='<img src=x onerror=alert(1)>'\n")
    for name in ("result.json", "trials.jsonl", "metrics.jsonl"):
        text = (run / name).read_text()
        (run / name).write_text(text.replace("100 images", r"$\\frac{</text><script>\" &amp;"))
    page = page_of(run)
    assert not {"script", "img"} & set(page.tags)
    assert "<script>alert('&')" in page.text
    assert "<img src=x onerror=alert(1)>" in page.text
    assert '$\\frac{</text><script>" &amp;, 0% noise' in page.text


def test_equal_runs_give_equal_bytes_whatever_the_callers_matplotlib(trained, index, run):
    """Figures of an earlier report go, and other files stay."""
    run = run.rename(run.with_name(trained.name))
    (run / "report").mkdir(exist_ok=True)
    for name in ("played-99.svg", "notes.txt"):
        (run / "report" / name).write_text("old")
    with matplotlib.rc_context({"font.size": 30.0, "axes.grid": False, "savefig.bbox": "tight"}):
        before = dict(matplotlib.rcParams)
        again = write_report(run)
        assert dict(matplotlib.rcParams) == before
    files = {path.name: path.read_bytes() for path in index.parent.iterdir()}
    found = {path.name: path.read_bytes() for path in again.parent.iterdir()}
    assert found == files | {"notes.txt": b"old"}


def test_a_run_without_agent_measures_the_best_fixed_choice_or_names_the_highest_score(tmp_path):
    page = page_of(make_run(tmp_path / "run", contestants=("none", "random")))
    assert page.verdict.startswith("No agent played. The best fixed choice (")
    assert "What the agent learned" not in page.text
    assert "Learning curve" not in page.text
    run = make_run(tmp_path / "other", contestants=("random", "linear_ramp"), fixed=False)
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
    guides = ("off", "gradient", "spectral")
    few = {"noise": (0.3,), "seeds": 2, "saliency": guides}
    page = write_report(make_run(tmp_path / "run", **few, epochs=200, updates=300))
    assert "<pattern" in page.read_text()
    assert "guided by saliency" in page.read_text()
    assert page.stat().st_size < 1_000_000


def test_importing_the_report_does_not_import_matplotlib():
    code = "import sys, automix.agents.report; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
