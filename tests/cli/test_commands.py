"""Each command's good end: what it prints where, and what it leaves on the disk."""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from automix.agents.cli import tables
from automix.agents.cli.catalogue import REGISTRIES
from automix.agents.cli.commands.export import command as export
from automix.agents.config.agent import AGENTS, names_of, settings_class
from automix.agents.config.compose import groups, keys, load_settings
from automix.agents.config.schema import build
from automix.agents.config.settings import RunSettings
from automix.envs import ENV_IDS
from automix.mixes import MIXES, MixInfo
from automix.mixing.actions import PRESETS
from automix.policy.formats import FORMATS
from automix.policy.policy import load_policy
from automix.policy.schedule import load_schedule
from tests.agents.tiny_run import WORDS, lines
from tests.cli.conftest import everything_below

LOADED = "images: digits: 1,797 images, 8x8, grey; 10 classes: 0 (178), "

FEW = "compare.contestants=[none,random,fixed:cutmix@0.5]"


def result_of(run: Path) -> dict:
    return json.loads((run / "result.json").read_text(encoding="utf-8"))


# train and compare ------------------------------------------------------------------------------


@pytest.fixture
def arrays() -> Path:
    """Three classes of noise around three means, as a newcomer might save them."""
    labels = np.arange(150) % 3
    noise = np.random.default_rng(0).integers(0, 120, (150, 8, 8, 3))
    images = (noise + 60 * labels[:, None, None, None]).astype(np.uint8)
    path = Path("my images.npz")
    np.savez_compressed(path, images=images, labels=labels, class_names=np.array(["a", "b", "c"]))
    return path


def test_train_on_a_newcomers_own_arrays(cli, arrays):
    """``train task=npz task.root=...``, made small; every other setting is the default."""
    small = (
        *("trainer.epochs=2", "trainer.warmup_epochs=0", "trainer.model=small_cnn_w8"),
        *("agent.groups=1", "agent.group_size=2", "agent.total_timesteps=4", "workers=1"),
        *("compare.contestants=[agent,none]", "compare.seeds=2", "device=cpu"),
    )
    outcome = cli("train", "task=npz", f"task.root='{arrays}'", *small, "--run-dir", "runs/mine")
    assert outcome.code == 0, outcome.err
    result = result_of(Path("runs/mine"))
    assert result["tasks"] == ["all images, 0% noise"]
    assert {row["name"] for row in result["contestants"]} == {"agent", "none"}
    assert Path("runs/mine/report/index.html").is_file()
    # The table, on stdout; each contestant with its interval, and a legend.
    for name in ("agent", "none"):
        assert re.search(rf"^{name}\s+\d+\.\d \[\d+\.\d, \d+\.\d\]", outcome.out, re.MULTILINE)
    assert "agent minus it" in outcome.out
    # First and last lines for humans: where it is and what comes next.
    told = outcome.err.splitlines()
    assert str(Path("runs/mine").absolute()) in told[0]
    assert f"python run.py resume {Path('runs/mine').absolute()}" in told[1]
    assert str(Path("runs/mine").absolute()) in told[-2]
    assert told[-1].endswith("report/index.html")


def test_compare_prints_one_json_document_which_is_the_result(cli):
    outcome = cli("compare", *WORDS, FEW, "--json")
    assert outcome.code == 0
    printed = json.loads(outcome.out)
    (run,) = Path("runs").iterdir()
    assert re.fullmatch(r"digits_compare_s0_\d{8}-\d{6}", run.name)
    assert printed == result_of(run)
    assert {row["name"] for row in printed["contestants"]} == {"none", "random", "fixed:cutmix@0.5"}
    assert printed["agent_minus"] == {}
    assert "comparing 4/4" in outcome.err
    assert outcome.err.count(LOADED) == 1
    assert LOADED.endswith(printed["images"][0]["loaded"][: len(LOADED) - len("images: ")])


def test_compare_without_a_policy_plays_all_but_the_agent(cli):
    words = [word for word in WORDS if not word.startswith("compare.contestants")]
    outcome = cli("compare", *words, "--dry-run", "--json")
    contestants = json.loads(outcome.out)["plan"]["contestants"]
    assert "agent" not in contestants
    assert {"none", "random", "mix_then_none", "fixed:rmix@0.1"} <= set(contestants)


def test_overwrite_replaces_a_run(cli):
    for seed in (1, 2):
        outcome = cli("compare", *WORDS, FEW, f"seed={seed}", "--run-dir", "x", "--overwrite", "-q")
        assert outcome.code == 0, outcome.err
        assert not Path("x/metrics.jsonl").exists(), "nothing is left of the old run"
        Path("x/metrics.jsonl").touch()
    assert yaml.safe_load(Path("x/config.yaml").read_text(encoding="utf-8"))["seed"] == 2
    assert len(lines(Path("x/trials.jsonl"))) == 12


def test_quiet_says_nothing_but_the_result_and_the_run_has_log_and_command(cli):
    outcome = cli("compare", *WORDS, FEW, "--run-dir", "x", "-q")
    assert outcome.code == 0
    assert outcome.err == ""
    assert "none" in outcome.out
    log = Path("x/log.txt").read_text(encoding="utf-8")
    assert "comparing 4/4" in log
    assert LOADED in log
    kept = Path("x/command.txt").read_text(encoding="utf-8")
    assert kept.startswith("python run.py compare 'task.train_sizes=[40,60]'")
    assert kept.endswith("--run-dir x -q\n")


def test_a_dry_run_shows_plan_and_cost_and_touches_no_disk(cli):
    for command, contestants, trials, learning in (
        ("train", "[agent,none]", 8, 16),
        ("compare", "[none,random,alternating]", 12, 0),
    ):
        outcome = cli(command, "--dry-run", *WORDS, f"compare.contestants={contestants}")
        assert outcome.code == 0, outcome.err
        assert outcome.err.count(LOADED) == 1
        assert everything_below(Path.cwd()) == []
        plan = dict(line.split(maxsplit=1) for line in outcome.out.splitlines())
        assert plan["held_out_tasks"] == "40 images, 0% noise, 50 images, 30% noise"
        assert plan["trials"] == str(trials)
        assert plan["episodes"] == str(learning // 2)
        cost = {"learning": learning, "comparing": 2 * trials}
        assert plan["classifier_epochs"] == str(cost)


def test_a_dry_run_of_the_default_is_what_the_readme_promises_to_run(cli):
    outcome = cli("train", "--dry-run", "--json", "device=cpu")
    document = json.loads(outcome.out)
    assert set(document) == {"plan", "config"}
    assert build(RunSettings, document["config"]) == load_settings(["device=cpu"])
    plan, config = document["plan"], document["config"]
    agent = config["agent"]
    assert plan["episodes"] == plan["updates"] * agent["groups"] * agent["group_size"]
    assert len(plan["held_out_tasks"]) >= 3
    assert config["compare"]["seeds"] >= 10
    trained = {(s, n) for s in config["task"]["train_sizes"] for n in config["task"]["label_noise"]}
    held_out = {
        (int(size), float(noise))
        for size, noise in (kind.split("@") for kind in config["compare"]["kinds"])
    }
    assert held_out - trained, "sizes and noise levels between those that were trained on"
    assert {"agent", "none", "random"} <= set(plan["contestants"])
    assert plan["images"][0]["loaded"].startswith("digits: 1,797 images")
    assert everything_below(Path.cwd()) == []


# The other commands -----------------------------------------------------------------------------


def test_config_prints_every_key_and_builds_the_same_settings_again(cli):
    words = ("seed=3", "agent.learning_rate=1e-3", "env.actions.methods=[none,rmix]", "name=x")
    printed = cli("config", *words)
    assert printed.code == 0
    values = yaml.safe_load(printed.out)
    assert build(RunSettings, values) == load_settings(words)
    assert json.loads(cli("config", *words, "--json").out) == values
    others = {f"agent.{name}" for agent in AGENTS for name in names_of(settings_class(agent))}
    others -= {f"agent.{name}" for name in names_of(settings_class("ppo"))}
    for key in set(keys()) - others:
        section = values
        for part in key.split("."):
            section = section[part]
    assert everything_below(Path.cwd()) == []


def test_list_names_everything_registered(cli):
    document = json.loads(cli("list", "--json").out)
    for kind, registry in REGISTRIES.items():
        assert [entry["name"] for entry in document[kind]] == list(registry)
        assert all(entry["summary"].strip() for entry in document[kind]), kind
    assert [entry["name"] for entry in document["environments"]] == list(ENV_IDS)
    assert "small_cnn_w8" in {entry["name"] for entry in document["models"]}
    configs = {entry["name"] for entry in document["configs"]}
    assert configs == {f"{group}={option}" for group, some in groups().items() for option in some}
    assert {entry["name"]: entry["summary"] for entry in document["published"]} == PRESETS
    guided = {entry["name"]: entry["facts"].get("guided") for entry in document["mixes"]}
    assert guided["cutmix"] is True
    assert guided["none"] is False


def test_list_says_what_a_thing_requires_and_supports(cli, monkeypatch):
    list(MIXES)  # discover what there is before the copy
    monkeypatch.setattr(MIXES, "_entries", dict(MIXES._entries))
    info = MixInfo(step=True, requires=("attention",), state=object)
    MIXES.register("attending_for_tests", info)(MIXES["cutmix"])
    document = {**json.loads(cli("list", "--json").out)}
    facts = {
        kind: {entry["name"]: entry["facts"] for entry in document[kind]}
        for kind in ("mixes", "labels", "saliency")
    }
    told = {
        name: (" ".join(own["requires"]), " ".join(own["supports"]))
        for own_kind in facts.values()
        for name, own in own_kind.items()
    }
    assert told["attending_for_tests"] == ("attention gradient state", "vit")
    assert told["cutmix"] == ("", "cnn vit")
    assert told["pointcutmix"] == ("", "points")
    assert told["cam_mass"] == ("saliency", "cnn vit")
    assert told["gradient"] == ("gradient", "cnn vit")
    assert told["teacher"] == ("classifier teacher", "cnn vit")
    lines = cli("list", "mixes").out.splitlines()
    assert lines[1].split() == ["name", "requires", "supports", "what"]
    (row,) = (line for line in lines if line.startswith("attending_for_tests"))
    assert row.split()[1:5] == ["attention,", "gradient,", "state", "vit"]


def test_list_takes_one_kind(cli):
    shown = cli("list", "mixes")
    assert shown.code == 0
    assert "spectral" not in shown.out
    for entry in MIXES.entries():  # no terminal, so nothing is cut
        assert re.search(rf"^{entry.name} .* {re.escape(entry.summary)}", shown.out, re.MULTILINE)
    assert list(json.loads(cli("list", "rewards", "--json").out)) == ["rewards"]
    models = json.loads(cli("list", "models", "--json").out)["models"]
    assert len(models) > 500
    assert {"resnet18", "small_cnn_w16"} <= {model["name"] for model in models}


def test_evaluate_scores_an_exported_policy_and_writes_nothing(cli, run):
    outcome = cli("evaluate", run, *WORDS, "--json")
    assert outcome.code == 0, outcome.err
    (row,) = json.loads(outcome.out)["contestants"]
    assert cli("evaluate", run / "export", *WORDS, "--json").out == outcome.out
    trained = next(row for row in result_of(run)["contestants"] if row["name"] == "agent")
    assert row["n"] == 4
    # The same tasks and the same policy as in the run, side by side with nobody.
    assert row["mean"] == pytest.approx(trained["mean"], abs=0.01)
    assert row["epochs_spent"] == trained["epochs_spent"]
    assert everything_below(Path.cwd()) == []


def test_evaluate_and_compare_take_the_policy_that_comes_along_where_none_is_named(cli):
    few = ("trainer.epochs=5", "compare.seeds=1", "compare.kinds=[40@0.0]", "--json")
    words = [word for word in WORDS if not word.startswith(("trainer.epochs", "env."))]
    named = cli("evaluate", "worlds", *words, *few)
    assert named.code == 0, named.err
    assert cli("evaluate", *words, *few).out == named.out
    assert cli("evaluate", "agent", *words, *few).out == named.out
    compared = cli("compare", *words, *few, "compare.contestants=[agent]", "--run-dir", "run")
    assert compared.code == 0, compared.err
    (row,) = json.loads(named.out)["contestants"]
    assert result_of(Path("run"))["contestants"] == [row]


def test_evaluate_scores_a_schedule_by_its_name(cli):
    outcome = cli("evaluate", "fixed:cutmix@0.25", *WORDS)
    assert outcome.err.count(LOADED) == 1
    assert outcome.code == 0
    assert re.search(r"^fixed:cutmix@0.25\s+\d", outcome.out, re.MULTILINE)
    assert everything_below(Path.cwd()) == []


def test_export_copies_what_a_training_script_needs(cli, run):
    outcome = cli("export", run, "--out", "taken home")
    assert outcome.code == 0
    files = ["policy.json", "policy.safetensors", "rule.json", "rule.txt", "schedule.yaml"]
    assert everything_below(Path("taken home")) == files
    load_policy("taken home")
    # The last line is Python that works.
    code = outcome.out.splitlines()[-1].removeprefix("use it: automix.")
    assert code == "load_schedule('taken home').mixer(num_classes=...)"
    load_schedule("taken home").mixer(num_classes=10)
    told = json.loads(cli("export", run, "--out", "again", "--json").out)["files"]
    assert sorted(told) == [str(Path("again", file).absolute()) for file in files]
    assert cli("export", run, "--out", "again", "--format", "pt2").code == 0
    assert everything_below(Path("again")) == sorted([*files, "policy.pt2"])
    carried = {"policy.json": ""}
    torch.export.load(Path("again", "policy.pt2"), extra_files=carried)
    assert carried["policy.json"] == Path("again", "policy.json").read_text(encoding="utf-8")
    offered = next(param for param in export.params if param.name == "formats").type.choices
    assert list(offered) == list(FORMATS)


def test_report_draws_a_runs_page_again(cli, run):
    copy = Path(shutil.copytree(run, "copy", ignore=shutil.ignore_patterns("report")))
    outcome = cli("report", copy)
    assert outcome.code == 0, outcome.err
    page = Path(outcome.out.strip())
    assert page == copy.absolute() / "report" / "index.html"
    assert page.is_file()
    assert json.loads(cli("report", copy, "--json").out) == {"report": str(page)}


def test_doctor_says_what_a_bug_report_should_hold(cli):
    outcome = cli("doctor", "--json")
    assert outcome.code == 0
    found = json.loads(outcome.out)
    wanted = {"automix", "python", "torch", "extra ray", "gpus", "data", "one tiny episode"}
    assert wanted <= set(found)
    assert found["one tiny episode"].startswith("ok, last reward ")
    assert "1797 images of 10 classes" in found["data"]
    assert everything_below(Path.cwd()) == []
    plain = cli("doctor")
    assert [line.split("  ")[0] for line in plain.out.splitlines()] == list(found)


# Tables -----------------------------------------------------------------------------------------


def test_a_narrow_terminal_shows_fewer_columns(monkeypatch, capsys, run):
    wide = print_at(monkeypatch, capsys, run, 200)
    narrow = print_at(monkeypatch, capsys, run, 80)
    assert "40@0%" in wide
    assert "40@0%" not in narrow
    for text in (wide, narrow):
        assert "agent minus it" in text
        assert "fixed:cutmix@0.5" in text


def print_at(monkeypatch, capsys, run: Path, width: int) -> str:
    monkeypatch.setattr(tables, "WIDTH", 118)
    monkeypatch.setattr(tables, "console", lambda: tables.Console(width=width))
    tables.print_result(result_of(run))
    return capsys.readouterr().out


def test_few_seeds_are_called_too_few(monkeypatch, capsys, run):
    text = print_at(monkeypatch, capsys, run, 300)
    assert "2 seeds cannot show a difference: " in text
    assert "6 or more are needed" in text
    assert "Best fixed choice by validation accuracy: " in text


def test_verbose_and_quiet_are_levels_of_one_screen(cli):
    for options, level in (["-v"], logging.DEBUG), (["-q"], logging.WARNING), ([], logging.INFO):
        cli("config", *options)
        (screen,) = logging.getLogger("automix").handlers
        assert screen.level == level


def test_a_policy_that_comes_along_is_named_wherever_a_policy_is_taken(cli):
    outcome = cli("export", "digits_full", "--out", "mine")
    assert outcome.code == 0, outcome.err
    assert load_policy("mine").about == load_policy("digits_full").about
    small = ("compare.seeds=1", "compare.contestants=[agent]", "trainer.epochs=3", "workers=1")
    for words in (
        ("evaluate", "digits_full"),
        ("evaluate", "mine"),
        ("compare", "policy=digits_full", "--run-dir", "run"),
    ):
        outcome = cli(*words, *WORDS, *small)
        assert outcome.code == 0, outcome.err
