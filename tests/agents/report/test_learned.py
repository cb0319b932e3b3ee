"""What the agent learned: its play as a table, its rule, and what it looks at."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from automix.agents.report import text
from automix.agents.report.learned import learned_of
from automix.agents.report.run_files import read_run
from automix.core.errors import DataError
from tests.agents.report.made_run import HELD_OUT, explained, ratio_of
from tests.agents.report.pages import Page, page_of


def test_the_rule_and_what_it_depends_on_are_put_into_words(run):
    page = page_of(explained(run))
    shown = " ".join(page.text.split())
    assert "depends most on the share of epochs done (41 %) and validation loss (7 %)" in shown
    assert "1 of the 3 change less than 1 % each" in shown
    assert "if at most 55 % of the epochs are done (epoch 1 to 5 of 8): play cutmix@0.5" in shown
    assert (
        "otherwise, if the last method was rmix: play rmix@0.5 no held-out epoch comes here"
        in shown
    )
    assert "otherwise: play none 30 % of choices, agrees in 80 %" in shown
    assert "what the agent chose in 91 % [95 % interval 87 % to 95 %] of 96 choices" in shown
    assert "agrees in 61 %; the most frequent choice of each epoch" in shown
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
        assert cells[row + 4] == f"{np.mean([ratio_of(mix) for mix in first]):.2f}"


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
    task, spans = found.plays[0]
    assert task == "100 images, 0% noise"
    rows = [(s.epochs, s.mix, s.share, s.ratio, s.realised) for s in spans]
    assert rows == [
        (f"1{text.DASH}5", "cutmix@0.5", "97 %", "0.48", "0.40"),
        (f"6{text.DASH}8", "none", "100 %", "0.00", "0.00"),
    ]


def test_runs_without_an_explanation_show_the_rest(trained, index):
    assert "explanation" not in json.loads((trained / "result.json").read_text())
    shown = Page(index).text
    assert "What the agent learned" in shown
    assert "As a rule" not in shown
    assert "What its choice depends on" not in shown


@pytest.mark.parametrize("reason", ["importance", "all"])
def test_what_is_not_available_is_said_or_left_out(run, reason):
    def change(explanation):
        if reason == "all":
            explanation.clear()
            explanation["unavailable"] = "fewer than two trials"
        else:
            explanation["importance"] = {"unavailable": "its choice depends on earlier epochs too"}

    shown = page_of(explained(run, change)).text
    assert ("Not available: its choice depends on earlier epochs too." in shown) == (
        reason != "all"
    )
    assert ("Its choices as a rule" in shown) == (reason != "all")
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


DAMAGE = [
    (lambda e: e["rule"]["nodes"][1].update(choice="<b>"), "explanation: rule.*'<b>'"),
    (lambda e: e["rule"]["nodes"][0].update(low=0), "leads to 0"),
    (lambda e: e["rule"].pop("fidelity"), r"rule\.fidelity is missing"),
    (lambda e: e["rule"].update(parts=[]), r"explanation: rule\.parts is \[\]"),
    (lambda e: e["rule"]["parts"].update(last_method=7), r"last_method is 7, wanted a valid list"),
    (lambda e: e["rule"]["majority"].pop("choice"), r"majority\.choice is missing"),
    (lambda e: e["importance"]["observations"][0].update(changed="much"), "changed is 'much'"),
    (lambda e: e.pop("importance"), "importance is missing"),
    (lambda e: e["importance"].pop("observations"), "wanted observations, or why they are"),
]


def test_a_damaged_explanation_is_explained(run):
    for change, says in DAMAGE:
        with pytest.raises(DataError, match=says):
            learned_of(read_run(explained(run, change)))
