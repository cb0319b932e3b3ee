"""Who may import what, who may touch what: the rules of docs/ARCHITECTURE.md, executed."""

from __future__ import annotations

import ast
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
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
    }
    for name, words in calls(tree):
        last = name.rpartition(".")[2]
        loads = last in ("load", "load_from_zip_file", "load_replay_buffer", "unsafe_load")
        if loads and name != "load" and not safe.get(name, lambda _: False)(words):
            found.append(name)
    return found


def offences(rule: Callable[[ast.AST], list[str]], allowed: Callable[[Path], bool]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}: {name}"
        for path in SOURCES
        if not allowed(path)
        for name in rule(ast.parse(path.read_text(encoding="utf-8")))
    ]


def test_only_files_named_ray_and_the_sweep_import_ray():
    assert not offences(
        imports_ray, lambda path: path.name.startswith("ray_") or path.name == "sweep.py"
    )


def test_only_seeding_touches_the_global_generators():
    seeding = ROOT / "automix" / "seeding.py"
    assert not offences(touches_a_global_generator, lambda path: path == seeding)
    assert touches_a_global_generator(ast.parse(seeding.read_text(encoding="utf-8")))


def test_nothing_reads_pickles():
    assert not offences(reads_pickles, lambda path: False)


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (imports_ray, "def late():\n    import ray"),
        (imports_ray, "from ray import tune"),
        (imports_ray, "import ray.tune as t"),
        (touches_a_global_generator, "import random"),
        (touches_a_global_generator, "np.random.seed(0)"),
        (touches_a_global_generator, "draw = np.random.rand"),
        (touches_a_global_generator, "np.random.default_rng()"),
        (touches_a_global_generator, "torch.manual_seed(0)"),
        (touches_a_global_generator, "torch.cuda.manual_seed_all(0)"),
        (touches_a_global_generator, "torch.randperm(5)"),
        (touches_a_global_generator, "set_random_seed(0)"),
        (reads_pickles, "import pickle"),
        (reads_pickles, "from joblib import load"),
        (reads_pickles, "torch.load(path)"),
        (reads_pickles, "torch.load(path, weights_only=False)"),
        (reads_pickles, "np.load(path)"),
        (reads_pickles, "np.load(path, allow_pickle=True)"),
        (reads_pickles, "PPO.load(path)"),
        (reads_pickles, "yaml.load(text, Loader)"),
    ],
)
def test_the_rules_find_what_they_forbid(rule, text):
    assert rule(ast.parse(text))


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (imports_ray, "import rays"),
        (touches_a_global_generator, "np.random.Generator(np.random.PCG64(1)).random()"),
        (touches_a_global_generator, "torch.randperm(5, generator=g)"),
        (touches_a_global_generator, "rng.random(3)"),
        (reads_pickles, "torch.load(path, weights_only=True)"),
        (reads_pickles, "np.load(path, allow_pickle=False)"),
        (reads_pickles, "yaml.safe_load(text)"),
        (reads_pickles, "load(source)"),
    ],
)
def test_the_rules_let_the_rest_pass(rule, text):
    assert not rule(ast.parse(text))


def test_layers_are_those_of_the_contracts_in_pyproject():
    """In a process of its own: import-linter switches off the loggers of the one it runs in."""
    program = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports())"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_automix_trains_without_reinforcement_learning_or_a_cluster():
    """In a fresh process that has imported every module of automix, and looked up every name."""
    program = """
import importlib, pkgutil, sys
import automix
for module in pkgutil.walk_packages(automix.__path__, "automix."):
    importlib.import_module(module.name)
from automix.data import DATASETS
from automix.mixes import MIXES
assert list(MIXES) and list(DATASETS)
print(*sorted(name for name in sys.modules if "." not in name))
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    names = set(done.stdout.split())
    assert {"automix", "torch", "timm"} <= names
    forbidden = {"gymnasium", "stable_baselines3", "sb3_contrib", "ray", "hydra"}
    assert not names & {*forbidden, "envs", "agents"}


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


def test_a_new_mix_is_one_file_and_the_contract_holds_for_it(toy_mix):
    for rule in RULES:
        for check in checks_of(toy_mix, rule):
            check(Case(form=toy_mix, rule=rule))
    for law in laws_of(toy_mix):
        law(toy_mix)


@pytest.mark.parametrize("space", ["factored", "flat", "box"])
def test_a_new_mix_is_an_action(toy_mix, space):
    action = MixAction.parse("blinds@0.3")
    assert str(action) == "blinds@0.3"
    settings = ActionSettings(methods=("none", "blinds"), ratios=(0.1, 0.3), space=space)
    codec = ActionCodec(settings)
    number = codec.encode(action)
    assert codec.space.contains(number)
    assert codec.decode(number) == action


def test_a_new_mix_is_listed(toy_mix, cli):  # noqa: F811
    listed = json.loads(cli("list", "mixes", "--json").out)["mixes"]
    (blinds,) = (mix for mix in listed if mix["name"] == "blinds")
    assert blinds["summary"].startswith("Take as many")


@pytest.mark.skipif(
    importlib.util.find_spec("automix.agents.gallery") is None, reason="no gallery yet"
)
def test_a_new_mix_is_in_the_gallery(toy_mix, cli, tmp_path):  # noqa: F811
    small = [word for word in tiny_run.WORDS if word.startswith(("task.", "trainer.", "device="))]
    picture = tmp_path / "blinds.png"
    done = cli("gallery", "--mixes", "blinds", "--out", picture, *small)
    assert done.code == 0, done.err
    assert "blinds" in done.out + done.err
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_new_file_left_nothing_behind():
    assert "blinds" not in MIXES
