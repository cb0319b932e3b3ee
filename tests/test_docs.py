"""The documents say what the code does: paths, links, names, numbers, and every block runs."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from automix.agents.cli.main import COMMANDS
from automix.agents.config.compose import choices_of, groups, keys, load_settings
from automix.agents.jobs.run import run_train
from automix.agents.sweep.plan import plan_of
from automix.agents.sweep.search_plan import search_name, search_plan_of
from automix.core import errors
from automix.data import DATASETS
from automix.data.timm_torch import NAMES
from automix.envs import ENV_IDS
from automix.envs.codec import ActionCodec, ActionSettings
from automix.envs.observations import DEFAULT_OBSERVATIONS, OBSERVATIONS, Observer
from automix.envs.rewards import REWARDS
from automix.labels import LABEL_RULES
from automix.masks import shapes as masks
from automix.masks.pairing import PAIRINGS
from automix.mixes import MIXES, MixInfo
from automix.mixing.actions import PRESETS, MixAction
from automix.policy.policy import MixPolicy, PolicyForm, save_policy
from automix.policy.schedule import MixSchedule, save_schedule
from automix.saliency import SALIENCY
from automix.training.metrics import EpochMetrics

ROOT = Path(__file__).resolve().parent.parent
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [page for page in TOP if page.is_file()] + sorted((ROOT / "docs").rglob("*.md"))
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))

PATH = re.compile(
    r"(?<![\w/.<>-])(?:automix|envs|agents|configs|docs|examples|tests|\.ci)/[\w./<>-]*"
)
CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SETTING = re.compile(
    r"(?<![\w.-])(?:task|trainer|env|agent|compare)\.[a-z_][a-z_.]*[a-z_](?![\w(])"
)

TINY = (
    "task.train_sizes=[60]",
    "task.label_noise=[0.0]",
    "task.val_size=30",
    "trainer.epochs=2",
    "trainer.warmup_epochs=1",
    "agent.groups=1",
    "agent.group_size=2",
    "agent.total_timesteps=4",
    "compare.kinds=['60@0.0']",
    "compare.seeds=2",
    "compare.resamples=100",
    "compare.contestants=[agent,none,fixed:mixup@0.5]",
    "workers=1",
    "device=cpu",
)

RECORDS = [
    name
    for name, found in vars(masks).items()
    if dataclasses.is_dataclass(found) and found.__module__ == masks.__name__
]
"""What a mix may return as its mask."""

BY_DATA = {"by_kind", "play", "by_task", "agent_minus", "by_contestant", "regret", "found", "parts"}
"""What has names of tasks, mixes or contestants for keys."""


def every(pages: list[Path]) -> Any:
    """Parametrise over pages."""
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(ROOT)))


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """Return what stands below the heading that starts so, up to the next of its level."""
    found = re.search(
        rf"^## {re.escape(heading)}.*?\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE
    )
    assert found, f"no heading {heading!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """Return the cells of all table rows below the heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    ruled = {i for i, row in enumerate(cells) if all(set(cell) <= {"-"} for cell in row)}
    return [row for i, row in enumerate(cells) if i not in ruled and i + 1 not in ruled]


def first_column(text: str) -> list[str]:
    """Return the code words of the first column."""
    return [name for row in rows(text) for name in CODE.findall(row[0])]


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """An empty folder to run in, with the export folder ``my_policy``; registries are put back."""
    monkeypatch.chdir(tmp_path)
    list(MIXES)  # discover what there is before the copy
    monkeypatch.setattr(MIXES, "_entries", dict(MIXES._entries))
    actions = ActionSettings()
    codec = ActionCodec(actions)
    observer = Observer(DEFAULT_OBSERVATIONS, codec)
    form = PolicyForm(
        observations=observer.names,
        observation_sizes=observer.sizes,
        methods=actions.methods,
        ratios=actions.ratios,
        saliency=actions.saliency,
        space=actions.space,
        choices=[str(action) for action in codec.choices],
    )
    rng, widths = np.random.default_rng(0), (sum(observer.sizes), 8, 8)
    layers = [(rng.normal(size=(o, i)), np.zeros(o)) for i, o in pairwise(widths)]
    save_policy(tmp_path / "my_policy", MixPolicy(form, layers, {}))
    plays = [MixAction.parse(text) for text in ("cutmix@0.5", "mixup@0.25", "none")]
    schedule = MixSchedule(plays, {"200 images, 20% noise": plays[:1]})
    save_schedule(tmp_path / "my_policy" / "schedule.yaml", schedule, {})
    return tmp_path


# What runs ---------------------------------------------------------------------------------------


@every([page for page in PAGES if "```python\n" in page.read_text(encoding="utf-8")])
def test_every_python_block_runs(page, scratch):
    """Blocks of a page run in order, with what a reader has: a net, its data, an export."""
    reader_has = {
        "torch": torch,
        "model": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)),
        "loader": [(torch.rand(8, 1, 8, 8), torch.arange(8))] * 2,
        "epochs": 2,
    }
    blocks = [
        code for language, code in FENCE.findall(page.read_text("utf-8")) if language == "python"
    ]
    for number, code in enumerate(blocks, start=1):
        exec(compile(code, f"{page.name}, python block {number}", "exec"), reader_has)


def run_example(path: Path, monkeypatch, capsys) -> str:
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    return capsys.readouterr().out


@every([path for path in EXAMPLES if path.stem not in ("realised_share", "ray_vec_env")])
def test_every_example_runs(page, scratch, monkeypatch, capsys):
    assert run_example(page, monkeypatch, capsys)


def test_an_exported_schedule_trains_in_the_example(scratch, monkeypatch, capsys):
    module = runpy.run_path(str(ROOT / "examples" / "train_with_schedule.py"))
    module["main"]("my_policy")
    played = [line.split()[2] for line in capsys.readouterr().out.splitlines()]
    assert list(dict.fromkeys(played)) == ["cutmix@0.5", "mixup@0.25", "none"]


def test_the_table_of_realised_shares_is_what_is_got(scratch, capsys):
    """Of one draw a digit: a standard error of 0.01 or less."""
    runpy.run_path(str(ROOT / "examples" / "realised_share.py"))["main"](rounds=1)
    got = rows(capsys.readouterr().out)
    told = rows(section(read("docs/mixes/README.md"), "Asked for and got"))
    assert [row[0] for row in told] == [row[0] for row in got]
    for mine, theirs in zip(told, got, strict=True):
        cannot = [cell == "-" for cell in theirs[1:]]
        assert [cell == "-" for cell in mine[1:]] == cannot
        np.testing.assert_allclose(numbers(mine), numbers(theirs), atol=0.03)


def numbers(row: list[str]) -> list[float]:
    return [float(cell) for cell in row[1:] if cell != "-"]


def test_a_page_of_a_mix_and_the_index_tell_the_same_shares():
    index = rows(section(read("docs/mixes/README.md"), "Asked for and got"))
    told = []
    for name in MIXES:
        page = read(f"docs/mixes/{name}.md")
        told += rows(section(page, "Asked for and got")) if "## Asked for and got" in page else []
    assert told == index


# What is named exists ----------------------------------------------------------------------------


@every(PAGES)
def test_every_path_exists(page):
    for found in PATH.findall(page.read_text(encoding="utf-8")):
        path = found.rstrip("./")
        if path in ENV_IDS:
            continue
        there = ROOT / path if "<" not in path else (ROOT / path).parent
        assert there.exists(), f"{path} does not exist"


@every([ROOT / "docs" / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"])
def test_every_file_at_the_top_exists(page):
    for code in CODE.findall(page.read_text(encoding="utf-8")):
        if re.fullmatch(r"[\w.-]+\.(py|md|toml)", code) and code != "__init__.py":
            assert (ROOT / code).is_file(), f"{code} does not exist"


@every(PAGES)
def test_every_link_inside_the_project_resolves(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{link} leads nowhere"
        if anchor:
            heads = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor in slugs, f"{link} has no such heading"


@every(PAGES)
def test_every_setting_exists(page):
    """Outside of Python, ``agent.x`` and the like are settings, files or keys of a record."""
    prose = FENCE.sub(
        lambda fence: "" if fence[1] == "python" else fence[0], page.read_text("utf-8")
    )
    logged = first_column(section(read("docs/metrics.md"), "`metrics.jsonl`"))
    for name in SETTING.findall(prose):
        if not name.endswith((".py", ".json", ".safetensors")) and name not in logged:
            assert name in keys(), f"{name} is no setting"
    for code in set(CODE.findall(prose)):
        key, is_set, value = code.partition("=")
        if (
            is_set
            and value[:1] not in ("", ".")
            and "<" not in value
            and key in {*keys(), *groups()}
        ):
            for word in choices_of([code])[0].words:
                load_settings([word])


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of the command lines that stand alone on a line or in code."""
    for line in [*text.splitlines(), *CODE.findall(text)]:
        for program in ("python run.py ", "automix "):
            rest = line.strip()
            if rest.startswith(program) and rest.split()[-1][-1].isalnum():
                yield shlex.split(rest.removeprefix(program), comments=True)


@every(PAGES)
def test_every_command_line_can_be_typed(page):
    for words in commands(page.read_text(encoding="utf-8")):
        if not (words and words[0].isalpha() and words[0].islower()):
            continue
        assert words[0] in COMMANDS, f"{words[0]} is no command"
        overrides = [word for word in words if re.match(r"[a-z_.]+=", word) and "<" not in word]
        overrides = [word for word in overrides if "..." not in word]
        if words[0] == "sweep":
            # A replay is composed of what its schedule says, which no page has.
            search = search_name(overrides)
            if search != "replay":
                (plan_of if search == "grid" else search_plan_of)(overrides)
        else:
            load_settings(overrides)


# Commands ----------------------------------------------------------------------------------------


def options_of(name: str) -> list[Any]:
    command = importlib.import_module(f"automix.agents.cli.commands.{name}").command
    return [param for param in command.params if param.param_type_name == "option"]


def test_every_command_and_option_is_explained():
    text = read("docs/commands.md")
    assert first_column(text.partition("## Options")[0]) == list(COMMANDS)
    table = {
        word.split()[0]: row[1]
        for row in rows(section(text, "Options"))
        for word in CODE.findall(row[0])
    }
    for name in COMMANDS:
        for option in options_of(name):
            for word in option.opts:
                assert word in table, f"{name} {word} is not explained"
                of = table[word]
                assert "all commands" in of or f"`{name}`" in of, f"{name} {word}: of {of}"


def test_every_exit_code_is_explained():
    kinds = [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, Exception)]
    codes = {0, 130, 143} | {kind.exit_code for kind in kinds}
    told = {
        int(row[0]) for row in rows(section(read("docs/commands.md"), "Errors")) if row[0].isdigit()
    }
    assert told == codes


def test_every_setting_outside_the_sections_is_explained():
    told = first_column(section(read("docs/commands.md"), "Overrides"))
    assert sorted(told) == sorted(name for name in keys() if "." not in name)


# Records -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("docs") / "run"
    run_train(load_settings(TINY), path)
    return path


def names_in(value: Any) -> set[str]:
    """Return the keys of a record, all the way down, but not those that name data."""
    if isinstance(value, list):
        return set().union(*map(names_in, value))
    if not isinstance(value, dict):
        return set()
    found = set(value)
    for key, item in value.items():
        inner = list(item.values()) if key in BY_DATA else item
        found |= names_in(inner)
    return found


@pytest.mark.parametrize("name", ["metrics.jsonl", "trials.jsonl", "result.json"])
def test_every_key_of_a_record_is_explained_and_no_other(name, finished_run):
    content = (finished_run / name).read_text()
    lines = [content] if name.endswith(".json") else content.splitlines()
    written = set().union(*(names_in(json.loads(line)) for line in lines))
    text = section(read("docs/metrics.md"), f"`{name}`")
    told = {word for code in first_column(text) for word in re.findall(r"[a-z_0-9]+", code)}
    in_rows = {
        word for row in rows(text) for code in CODE.findall(row[-1]) for word in code.split()
    }
    assert written <= told | in_rows, f"not explained: {written - told - in_rows}"
    assert told - {"kind", "name"} <= written, f"not written: {told - written}"


def test_the_run_directory_holds_what_is_told(finished_run):
    files = [p.relative_to(finished_run) for p in finished_run.rglob("*") if p.is_file()]
    told = first_column(section(read("docs/commands.md"), "Run directory"))
    # What stands for a number is written as <what>.
    patterns = [re.sub("<[a-z]+>", "[0-9]*", name) for name in told]
    for file in files:
        names = {str(file), *(f"{folder}/" for folder in file.parents)}
        beside = file.suffix == ".svg" and file.parent.name == "report"
        known = any(fnmatch(name, pattern) for name in names for pattern in patterns)
        assert known or beside, f"{file} is not told of"
    for pattern in patterns:
        assert list(finished_run.glob(pattern)), f"{pattern} is not written"


def test_every_field_of_the_metrics_is_explained():
    told = first_column(section(read("docs/metrics.md"), "`EpochMetrics`"))
    assert told == [field.name for field in dataclasses.fields(EpochMetrics)]


def test_every_observation_is_explained_with_its_range():
    table = rows(section(read("docs/metrics.md"), "Observations"))
    assert sorted(row[0].strip("`") for row in table) == list(OBSERVATIONS)
    for name, told, meaning in ([cell.strip("`") for cell in row] for row in table):
        info = OBSERVATIONS.info(name)
        between = "or" if told.endswith("each") else "to"
        assert told.removesuffix(" each") == f"{info.low:g} {between} {info.high:g}", name
        assert ("not in the default set" in meaning) == (name not in DEFAULT_OBSERVATIONS), name


# Registries --------------------------------------------------------------------------------------


def test_everything_registered_is_explained():
    mixing, data = read("docs/mixing.md"), read("docs/your_data.md")
    index = read("docs/mixes/README.md")
    assert [row[0] for row in rows(index.partition("## ")[0])] == [
        f"[{name}]({name}.md)" for name in MIXES
    ]
    assert first_column(section(index, "Published names")) == list(PRESETS)
    assert sorted(first_column(section(mixing, "Masks"))) == sorted(RECORDS)
    facts = first_column(section(mixing, "Your own"))
    assert sorted(facts) == sorted(field.name for field in dataclasses.fields(MixInfo))
    assert sorted(first_column(section(mixing, "Saliency"))) == list(SALIENCY)
    assert set(PAIRINGS) <= set(CODE.findall(section(mixing, "Partners")))
    assert set(LABEL_RULES) <= set(CODE.findall(section(mixing, "Label rules")))
    assert sorted(first_column(section(read("docs/metrics.md"), "Rewards"))) == list(REWARDS)
    kinds = {name.partition("/")[0] for name in first_column(data.partition("## Folders")[0])}
    assert kinds == set(DATASETS)
    assert set(NAMES) <= set(CODE.findall(data))


# Decisions, and the commands that check ----------------------------------------------------------


def test_the_index_of_decisions_is_complete():
    told = rows(read("docs/decisions/README.md"))
    written = []
    for number, page in enumerate(DECISIONS, start=1):
        title = page.read_text(encoding="utf-8").splitlines()[0]
        assert title.startswith(f"# {number}. "), f"{page.name}: {title}"
        assert page.name.startswith(f"{number:04d}-")
        written.append([str(number), f"[{title.partition('. ')[2]}]({page.name})"])
    assert told == written


@every(DECISIONS)
def test_a_decision_tells_context_choice_and_price(page):
    words = page.read_text(encoding="utf-8")
    assert re.findall(r"^\*\*(Context|Choice|Price)\.\*\*", words, re.MULTILINE) == [
        "Context",
        "Choice",
        "Price",
    ]
    assert len(words.split()) < 350


def test_make_and_ci_run_the_same_checks():
    make, ci = read("Makefile"), read(".ci/run")
    for command in ("ruff check", "ruff format --check", "mypy", "lint-imports", "pytest"):
        assert f"\t{command}\n" in make
        assert command in ci
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
