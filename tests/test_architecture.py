"""Who may import what, who may touch what: the rules of docs/ARCHITECTURE.md, executed."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import pytest

import automix.mixes
from automix.envs.codec import ActionCodec, ActionSettings
from automix.mixes import MIXES
from automix.mixing.actions import MixAction
from tests.agents import tiny_run
from tests.cli.conftest import cli  # noqa: F401 (a fixture)
from tests.contract import RULES, Case, Form, checks_of, laws_of

ROOT = Path(automix.mixes.__file__).parents[2]
Rule = Callable[[ast.AST], list[str]]
PACKAGES = ("automix", "envs", "agents")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def dotted(node: ast.AST) -> str:
    """Return ``a.b.c`` for a name or a chain of attributes, with ``?`` for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else "?"


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def calls(tree: ast.AST) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield the name and the constant keywords of each call."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            constants = {
                word.arg: word.value.value if isinstance(word.value, ast.Constant) else ...
                for word in node.keywords
                if word.arg
            }
            yield dotted(node.func), constants


def references(tree: ast.AST) -> Iterator[str]:
    yield from (dotted(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute))


def imports_ray(tree: ast.AST) -> list[str]:
    return [name for name in imported(tree) if name.split(".")[0] == "ray"]


LOCAL_DRAWS = {"Generator", "BitGenerator", "PCG64", "SeedSequence", "default_rng", "mtrand"}
TORCH_DRAWS = {
    *("manual_seed", "seed", "initial_seed", "set_rng_state", "rand", "randn", "randint"),
    *("randperm", "normal", "bernoulli", "multinomial", "rand_like", "randn_like", "dropout"),
}


def touches_a_global_generator(tree: ast.AST) -> list[str]:
    """Return what seeds, reads or draws from the generators of NumPy, random and torch."""
    found = [name for name in imported(tree) if name == "random" or name.startswith("random.")]
    for name in references(tree):
        head, _, last = name.rpartition(".")
        if head in ("np.random", "numpy.random") and last not in LOCAL_DRAWS:
            found.append(name)
    for name, words in calls(tree):
        head, _, last = name.rpartition(".")
        torch_draw = head in ("torch", "torch.random") and last in TORCH_DRAWS
        if torch_draw and "generator" not in words:
            found.append(name)
        if last in ("set_random_seed", "manual_seed_all", "seed_everything"):
            found.append(name)
        if last == "manual_seed" and head.startswith("torch.cuda"):
            found.append(name)
    # A generator from nowhere is not repeatable either.
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and dotted(node.func).endswith("default_rng"):
            found += [] if node.args or node.keywords else [dotted(node.func)]
    return found


def reads_pickles(tree: ast.AST) -> list[str]:
    """Return what could run code that a file holds."""
    banned = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    found = [name for name in imported(tree) if name.split(".")[0] in banned]
    safe: dict[str, Callable[[dict], bool]] = {
        "torch.load": lambda words: words.get("weights_only") is True,
        "np.load": lambda words: words.get("allow_pickle") is False,
        "json.load": lambda words: True,
        "tomllib.load": lambda words: True,
        # Safetensors and JSON of our own (automix/core/snapshots.py).
        **dict.fromkeys(("checkpoint.load", "learning.load", "self._member.load"), lambda _: True),
    }
    for name, words in calls(tree):
        last = name.rpartition(".")[2]
        loads = last in ("load", "load_from_zip_file", "load_replay_buffer", "unsafe_load")
        if loads and name != "load" and not safe.get(name, lambda _: False)(words):
            found.append(name)
    return found


FORBIDDEN: tuple[tuple[Rule, Callable[[str], bool]], ...] = (
    (imports_ray, lambda file: "/ray_" in file),
    (touches_a_global_generator, lambda file: file == "automix/core/seeding.py"),
    (reads_pickles, lambda file: False),
)
"""What may be done in a few files only, or nowhere."""


@lru_cache
def trees() -> dict[str, ast.AST]:
    """Return the syntax trees of the product by file."""
    return {
        str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES
    }


def offences(rule: Rule, allowed: Callable[[str], bool] = lambda file: False) -> list[str]:
    files = {file: tree for file, tree in trees().items() if not allowed(file)}
    return [f"{file}: {name}" for file, tree in files.items() for name in rule(tree)]


def test_ray_generators_and_pickles_stay_where_they_belong():
    for rule, allowed in FORBIDDEN:
        assert not offences(rule, allowed)
    assert touches_a_global_generator(trees()["automix/core/seeding.py"])


def test_the_rules_find_what_they_forbid_and_let_the_rest_pass():
    offences = {
        imports_ray: ("def late():\n    import ray", "from ray import tune", "import ray.tune"),
        touches_a_global_generator: (
            *("import random", "np.random.seed(0)", "draw = np.random.rand"),
            *("np.random.default_rng()", "torch.manual_seed(0)", "torch.cuda.manual_seed_all(0)"),
            *("torch.randperm(5)", "set_random_seed(0)"),
        ),
        reads_pickles: (
            *("import pickle", "from joblib import load", "torch.load(path)"),
            *("torch.load(path, weights_only=False)", "np.load(path)"),
            *("np.load(path, allow_pickle=True)", "PPO.load(path)", "yaml.load(text, Loader)"),
        ),
    }
    harmless = {
        imports_ray: ("import rays",),
        touches_a_global_generator: (
            "np.random.Generator(np.random.PCG64(1)).random()",
            *("torch.randperm(5, generator=g)", "rng.random(3)"),
        ),
        reads_pickles: (
            *("torch.load(path, weights_only=True)", "np.load(path, allow_pickle=False)"),
            *("yaml.safe_load(text)", "load(source)"),
        ),
    }
    for rule, texts in offences.items():
        assert [text for text in texts if not rule(ast.parse(text))] == []
    for rule, texts in harmless.items():
        assert [text for text in texts if rule(ast.parse(text))] == []


# Rooms -------------------------------------------------------------------------------------------

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LAYERS = {
    contract["containers"][0]: contract["layers"]
    for contract in PYPROJECT["tool"]["importlinter"]["contracts"]
    if contract["type"] == "layers"
}


def rooms_of(package: Path) -> set[str]:
    return {path.parent.name for path in package.glob("*/__init__.py")}


def modules_of(package: Path) -> set[str]:
    return rooms_of(package) | {path.stem for path in package.glob("*.py")} - {"__init__"}


def named(layers: Iterable[str]) -> list[str]:
    return [name for layer in layers for name in re.findall(r"[a-z_]+", layer)]


def test_imports_point_down_as_the_contracts_in_pyproject_say():
    """In a process of its own: import-linter switches off the loggers of the one it runs in."""
    program = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_folder_has_its_place_in_the_contracts_and_in_the_picture():
    contracts = PYPROJECT["tool"]["importlinter"]["contracts"]
    for package, layers in LAYERS.items():
        folder = ROOT / package.replace(".", "/")
        assert sorted(named(layers)) == sorted(modules_of(folder)), package
    assert set(LAYERS) == {"automix", "automix.envs", "automix.agents"}
    assert all(c["exhaustive"] for c in contracts if c["type"] == "layers")
    below = set(named(LAYERS["automix"])) - {"envs", "agents"}
    (free,) = (c["source_modules"] for c in contracts if c["name"].startswith("what mixes"))
    assert set(free) == {f"automix.{room}" for room in below}

    text = (ROOT / "docs" / "ARCHITECTURE.md").read_text(encoding="utf-8")
    picture = text.partition("```mermaid\n")[2].partition("```")[0]
    drawn = dict(re.findall(r"subgraph (\w+)\n(.*?)\n  end", picture, re.DOTALL))
    arrows = {name: [layer.strip() for layer in line.split("-->")] for name, line in drawn.items()}
    assert arrows["agents"] == LAYERS["automix.agents"]
    wanted = [layer.replace(" : ", " & ") for layer in LAYERS["automix"][2:]]
    assert arrows["automix"] == wanted
    assert picture.splitlines()[-1].split(" --> ") == ["  agents", "envs", "automix"]
    table = text.partition("## Rooms")[2].partition("## Flow")[0]
    rooms = {f"automix/{room}" for room in below} | {"envs"}
    rooms |= {f"agents/{room}" for room in rooms_of(ROOT / "agents")}
    first_cells = " ".join(line.split("|")[1] for line in table.splitlines() if line[:1] == "|")
    assert set(re.findall(r"`([^`]+)`", first_cells)) == rooms


REGISTRIES = {"automix/mixes", "agents/learning/algorithms"}
"""Folders of one thing a file, which may be long."""
UNLISTED = ("__init__.py", "__pycache__", *PACKAGES)
"""Packages are listed on their own, not where a link puts them into automix."""


def test_a_listing_reads_like_a_table_of_contents():
    for package in PACKAGES:
        for folder in (ROOT / package, *(ROOT / package).rglob("*/")):
            entries = [p.name for p in folder.iterdir() if p.name not in UNLISTED]
            if folder.is_dir() and str(folder.relative_to(ROOT)) not in REGISTRIES:
                assert len(entries) <= 12, f"{folder}: {sorted(entries)}"


def test_nothing_names_a_path_of_the_machine_it_was_written_on():
    own = re.compile(r"(?<![\w.~}])/(?:home|Users|root|work|mnt|opt)/\w")
    others = ("configs", "docs", "tests", "tools", "benchmarks", "examples", "results")
    for top in (*PACKAGES, *others):
        for path in (ROOT / top).rglob("*"):
            if path.suffix in (".py", ".md", ".yaml", ".toml", ".json") and path.is_file():
                found = own.findall(path.read_text(encoding="utf-8"))
                assert not found, f"{path.relative_to(ROOT)}: {found}"


# A new mix ---------------------------------------------------------------------------------------

TOY = '''
"""Blinds: take columns of the partner."""

import numpy as np

from automix.mixes import MIXES


@MIXES.register("blinds")
def blinds(draw):
    """Take as many random columns as the share asks for."""
    height, width = draw.size
    rank = draw.rng.random((len(draw.share), width)).argsort(1)
    taken = rank < (draw.share * width).round()[:, None]
    return taken[:, None, None].repeat(height, 2).astype(np.float32)
'''


@pytest.fixture
def toy_mix(tmp_path, monkeypatch):
    """A folder of mixes with one file more, looked at afresh."""
    (tmp_path / "blinds.py").write_text(TOY)
    monkeypatch.setattr(automix.mixes, "__path__", [*automix.mixes.__path__, str(tmp_path)])
    monkeypatch.setattr(MIXES, "_entries", dict(MIXES._entries))
    monkeypatch.setattr(MIXES, "_package", "automix.mixes")
    yield Form("blinds")
    sys.modules.pop("automix.mixes.blinds", None)
    if hasattr(automix.mixes, "blinds"):
        del automix.mixes.blinds
    monkeypatch.undo()
    assert "blinds" not in MIXES


def test_a_new_mix_is_one_file_and_the_contract_holds_for_it(toy_mix):
    for rule in RULES:
        for check in checks_of(toy_mix, rule):
            check(Case(form=toy_mix, rule=rule))
    for law in laws_of(toy_mix):
        law(toy_mix)


def test_a_new_mix_is_an_action_listed_and_drawn(toy_mix, cli, tmp_path):  # noqa: F811
    action = MixAction.parse("blinds@0.3")
    assert str(action) == "blinds@0.3"
    for space in ("factored", "flat", "box"):
        settings = ActionSettings(methods=("none", "blinds"), ratios=(0.1, 0.3), space=space)
        codec = ActionCodec(settings)
        number = codec.encode(action)
        assert codec.space.contains(number)
        assert codec.decode(number) == action

    listed = json.loads(cli("list", "mixes", "--json").out)["mixes"]
    (blinds,) = (mix for mix in listed if mix["name"] == "blinds")
    assert blinds["summary"].startswith("Take as many")

    small = [word for word in tiny_run.WORDS if word.startswith(("task.", "trainer.", "device="))]
    picture = tmp_path / "blinds.png"
    done = cli("gallery", "--mixes", "blinds", "--out", picture, *small)
    assert done.code == 0, done.err
    assert "blinds" in done.out + done.err
    assert picture.read_bytes().startswith(b"\x89PNG")
