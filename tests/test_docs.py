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
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from automix.agents.cli.main import COMMANDS
from automix.agents.config.compose import choices_of, groups, keys, load_settings
from automix.agents.learning.export import copy_export
from automix.agents.sweep.planning.plan import plan_of
from automix.core import errors
from automix.data import DATASETS
from automix.data.timm_torch import NAMES
from automix.envs import ENV_IDS
from automix.envs.codec import ActionCodec, ActionSettings
from automix.envs.rewards import REWARDS
from automix.labels import LABEL_RULES
from automix.masks import shapes as masks
from automix.masks.pairing import PAIRINGS
from automix.mixes import MIXES, MixInfo
from automix.mixing.actions import PRESETS, MixAction
from automix.policy.observations import DEFAULT_OBSERVATIONS, OBSERVATIONS, Observer
from automix.policy.policy import MixPolicy, PolicyForm, save_policy
from automix.policy.schedule import MixSchedule, save_schedule
from automix.saliency import SALIENCY
from automix.training.metrics import EpochMetrics
from tests.agents import tiny_run

ROOT = Path(__file__).resolve().parent.parent
TOP = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = {
    page: page.read_text(encoding="utf-8").partition("\n## 0.1.0")[0]  # the past stays as it was
    for page in (*TOP, *sorted((ROOT / "docs").rglob("*.md")))
}
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

RECORDS = [
    name
    for name, found in vars(masks).items()
    if dataclasses.is_dataclass(found) and found.__module__ == masks.__name__
]
"""What a mix may return as its mask."""

BY_DATA = {"by_kind", "play", "by_task", "agent_minus", "by_contestant", "regret", "found", "parts"}
"""What has names of tasks, mixes or contestants for keys."""


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
    observer = Observer(DEFAULT_OBSERVATIONS, codec.settings)
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


OTHERS = ("accelerate", "lightning", "transformers", "ultralytics")
"""Trainers outside of constraints.txt; the page of each has its name."""


def marks(page: Path) -> tuple[Any, ...]:
    if page.parent.name != "trainers" or page.stem not in OTHERS:
        return ()
    missing = find_spec(page.stem) is None
    return (
        pytest.mark.integrations,
        pytest.mark.skipif(missing, reason=f"{page.stem} is not installed"),
        pytest.mark.filterwarnings("ignore"),
    )


def pages_with_python() -> list[Any]:
    return [
        pytest.param(text, id=page.name, marks=marks(page))
        for page, text in PAGES.items()
        if "```python\n" in text
    ]


def save_images(folder: Path) -> None:
    """Write a folder of images as a reader has it: two splits of two classes."""
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (32, 32)).save(folder / split / name / f"{number}.png")


@pytest.mark.parametrize("text", pages_with_python())
def test_every_python_block_runs(text, scratch, monkeypatch):
    """Blocks of a page run in order, with what a reader has: a net, its data, an export."""
    monkeypatch.setenv("YOLO_OFFLINE", "true")
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(scratch))
    save_images(scratch / "my_images")
    reader_has = {
        "torch": torch,
        "model": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)),
        "loader": [(torch.rand(8, 1, 8, 8), torch.arange(8))] * 2,
        "epochs": 2,
    }
    if "policy.pt2" in text:
        copy_export(scratch / "my_policy", scratch / "my_policy", ["pt2"])
    blocks = [code for language, code in FENCE.findall(text) if language == "python"]
    for number, code in enumerate(blocks, start=1):
        exec(compile(code, f"python block {number}", "exec"), reader_has)


def test_the_pages_of_trainers_show_as_many_lines_as_the_table_says():
    """Of a diff, those that are new; else those of the first block that speak of mixing."""
    ways = [row for row in rows(read("docs/trainers/README.md")) if len(row) == 3]
    pages = {LINK.findall(way)[0]: int(lines) for _, way, lines in ways if "(../" not in way}
    assert set(pages) == {p.name for p in (ROOT / "docs/trainers").iterdir()} - {"README.md"}
    for page, lines in pages.items():
        language, code = FENCE.findall(read(f"docs/trainers/{page}"))[0]
        mark = r"^\+" if language == "diff" else r"^.*(?i:mix)"
        assert len(re.findall(mark, code, re.MULTILINE)) == lines, page


EXAMPLES = {path.stem: str(path) for path in sorted((ROOT / "examples").glob("*.py"))}


@pytest.mark.parametrize("name", sorted(EXAMPLES.keys() - {"realised_share", "ray_vec_env"}))
def test_every_example_runs(name, scratch, monkeypatch, capsys):
    """But for two that have tests of their own."""
    path = EXAMPLES[name]
    monkeypatch.setattr(sys, "argv", [path])
    runpy.run_path(path, run_name="__main__")
    assert capsys.readouterr().out


def test_an_exported_schedule_trains_in_the_example(scratch, monkeypatch, capsys):
    module = runpy.run_path(str(ROOT / "examples" / "train_with_schedule.py"))
    module["main"]("my_policy")
    played = [line.split()[2] for line in capsys.readouterr().out.splitlines()]
    assert list(dict.fromkeys(played)) == ["cutmix@0.5", "mixup@0.25", "none"]


def test_the_realised_shares_in_the_index_are_those_measured_and_those_of_the_pages(
    scratch, capsys
):
    """Of one draw a digit: a standard error of 0.01 or less."""
    index = rows(section(read("docs/mixes/README.md"), "Asked for and got"))
    runpy.run_path(str(ROOT / "examples" / "realised_share.py"))["main"](rounds=1)
    measured = rows(capsys.readouterr().out)
    for written, got in zip(index, measured, strict=True):
        assert [c if c == "-" else "" for c in written[1:]] == [
            c if c == "-" else "" for c in got[1:]
        ]
        assert written[0] == got[0]
        np.testing.assert_allclose(numbers(written), numbers(got), atol=0.03, err_msg=written[0])
    on_pages = []
    for name in MIXES:
        page = read(f"docs/mixes/{name}.md")
        on_pages += rows(section(page, "Asked for and got")) if "## Asked for" in page else []
    assert on_pages == index


def numbers(row: list[str]) -> list[float]:
    return [float(cell) for cell in row[1:] if cell != "-"]


# What is named exists ----------------------------------------------------------------------------


def test_every_path_exists():
    for page, text in PAGES.items():
        for found in PATH.findall(text):
            path = found.rstrip("./")
            there = ROOT / path if "<" not in path else (ROOT / path).parent
            assert path in ENV_IDS or there.exists(), f"{page}: {path} does not exist"
    for page in (ROOT / "docs" / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"):
        for code in CODE.findall(PAGES[page]):
            if re.fullmatch(r"[\w.-]+\.(py|md|toml)", code) and code != "__init__.py":
                assert (ROOT / code).is_file(), f"{page}: {code} does not exist"


def slugs(text: str) -> set[str]:
    """Return the anchors of a page's headings."""
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


def test_every_link_inside_the_project_resolves():
    for page, text in PAGES.items():
        for link in LINK.findall(text):
            if "://" in link:
                continue
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), f"{page}: {link} leads nowhere"
            if anchor:
                assert anchor in slugs(target.read_text(encoding="utf-8")), f"{page}: {link}"


def prose(text: str) -> str:
    return FENCE.sub(lambda fence: "" if fence[1] == "python" else fence[0], text)


def test_every_setting_exists_and_every_value_can_be_set():
    """Outside of Python, ``agent.x`` and the like are settings, files or keys of a record."""
    logged = first_column(section(read("docs/metrics.md"), "`metrics.jsonl`"))
    settable = {*keys(), *groups()}
    shown = {code: page for page, text in PAGES.items() for code in CODE.findall(prose(text))}
    for page, text in PAGES.items():
        for name in set(SETTING.findall(prose(text))) - {*logged, *keys()}:
            assert name.endswith((".py", ".json", ".safetensors")), f"{page}: {name} is no setting"
    words = []
    for code, page in shown.items():
        key, is_set, value = code.partition("=")
        if is_set and key in settable and value[:1] not in ("", ".") and "<" not in value:
            words += [(override, page) for override in choices_of([code])[0].words]
    for batch in batches(words):
        try:
            load_settings(list(batch))
        except errors.AutomixError as error:
            pytest.fail(f"{error}, of {batch}")


def batches(words: list[tuple[str, Path]]) -> Iterator[dict[str, Path]]:
    """Yield eight overrides of different keys at a time, with their pages; to compose is slow."""
    while words:
        batch: dict[str, tuple[str, Path]] = {}
        for word, page in words:
            if len(batch) < 8:
                batch.setdefault(word.partition("=")[0], (word, page))
        words = [entry for entry in words if entry not in batch.values()]
        yield dict(batch.values())


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of the command lines that stand alone on a line or in code."""
    for line in [*text.splitlines(), *CODE.findall(text)]:
        for program in ("python run.py ", "automix "):
            rest = line.strip()
            if rest.startswith(program) and rest.split()[-1][-1].isalnum():
                yield shlex.split(rest.removeprefix(program), comments=True)


def test_every_command_line_can_be_typed():
    lines = {tuple(line): page for page, text in PAGES.items() for line in commands(text)}
    for line, page in lines.items():
        if not (line and line[0].isalpha() and line[0].islower()):
            continue
        assert line[0] in COMMANDS, f"{page}: {line[0]} is no command"
        overrides = [word for word in line if re.match(r"[a-z_.]+=", word)]
        overrides = [word for word in overrides if "<" not in word and "..." not in word]
        if line[0] != "sweep":
            load_settings(overrides)
        # A replay is composed of what its schedule says, which no page has.
        elif "sweep.search=replay" not in overrides:
            plan_of(overrides)


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
    return tiny_run.finished(tmp_path_factory)


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


def test_every_key_of_a_record_is_explained_and_no_other(finished_run):
    for name in ("metrics.jsonl", "trials.jsonl", "result.json"):
        content = (finished_run / name).read_text()
        lines = [content] if name.endswith(".json") else content.splitlines()
        written = set().union(*(names_in(json.loads(line)) for line in lines))
        text = section(read("docs/metrics.md"), f"`{name}`")
        told = {word for code in first_column(text) for word in re.findall(r"[a-z_0-9]+", code)}
        codes = [code for row in rows(text) for code in CODE.findall(row[-1])]
        in_rows = {word for code in codes for word in code.split()}
        assert written <= told | in_rows, f"{name}: not explained: {written - told - in_rows}"
        assert told - {"kind", "name"} <= written, f"{name}: not written: {told - written}"


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


def test_every_decision_is_in_the_index_and_tells_context_choice_and_price():
    written = []
    for number, page in enumerate(DECISIONS, start=1):
        text = PAGES[page]
        title = text.splitlines()[0]
        assert title.startswith(f"# {number}. "), f"{page.name}: {title}"
        assert page.name.startswith(f"{number:04d}-")
        written.append([str(number), f"[{title.partition('. ')[2]}]({page.name})"])
        parts = re.findall(r"^\*\*(Context|Choice|Price)\.\*\*", text, re.MULTILINE)
        assert parts == ["Context", "Choice", "Price"], page.name
        assert len(text.split()) < 350, page.name
    assert rows(read("docs/decisions/README.md")) == written


def test_make_ci_and_hooks_run_the_same_checks_and_readme_has_the_commands():
    make, ci, hooks = read("Makefile"), read(".ci/run"), read(".pre-commit-config.yaml")
    for command in ("ruff check", "ruff format --check", "mypy", "lint-imports", "pytest"):
        assert f"\t{command}\n" in make
        assert command in ci
        assert f"entry: {command.removesuffix(' --check')}" in hooks
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    run = '    pip install -e ".[all]" -c constraints.txt && python run.py train\n'
    test = '    pip install -e ".[test]" -c constraints.txt && pytest\n'
    assert run in read("README.md")
    assert test in read("README.md")
    assert f"'{test.strip()}'" in ci
    quick = re.search(r"entry: pytest (.*)", hooks)[1].split()
    assert all((ROOT / word).exists() for word in quick if word.startswith("tests"))
