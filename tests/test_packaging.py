"""One name in site-packages, what must be installed for what, and the public names."""

from __future__ import annotations

import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import automix
from automix.core.extras import EXTRAS

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
PACKAGED = ("automix", "envs", "agents", "configs", "pyproject.toml", "README.md", "LICENSE")

PUBLIC = {
    "automix": {
        *("MixAction", "MixSchedule", "MixTransform", "MixedLoss", "Trainer"),
        *("list_policies", "load_policy", "load_schedule", "loss_of", "mix_batch"),
    },
    "automix.envs": {
        *("ENV_IDS", "OBSERVATIONS", "REWARDS", "ActionCodec", "ActionSettings", "BoxActions"),
        *("EnvSettings", "EpisodeGroup", "FlatActions", "ImageWorld", "MixEnv", "MixVectorEnv"),
        *("RewardSettings", "StackedGroups", "SurrogateMixEnv", "SurrogateVectorEnv"),
        *("SurrogateWorld", "image_world"),
    },
    "automix.agents": {"RayVecEnv", "load_settings", "run_compare", "run_train"},
}
"""The documented names: what is renamed or removed here breaks somebody's script."""


def python(program: str, cwd: Path = ROOT, path: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh process that finds packages in a folder first."""
    return subprocess.run(
        [sys.executable, "-c", program],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(path)},
        capture_output=True,
        text=True,
        timeout=120,
    )


# The wheel ---------------------------------------------------------------------------------------


def copied(folder: Path, *, links: bool) -> Path:
    """Copy what is packaged, with its links or with what they lead to."""
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
    folder.mkdir()
    for name in PACKAGED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=links, ignore=unwanted)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def built(kind: str, source: Path, out: Path) -> Path:
    """Build a wheel or an sdist as a front end does, with the setuptools that is here."""
    out.mkdir(exist_ok=True)
    program = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}))"
    done = python(program, cwd=source, path=source)
    assert done.returncode == 0, done.stderr
    assert "SetuptoolsDeprecationWarning" not in done.stderr, done.stderr
    return out / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    return built("wheel", copied(folder / "source", links=True), folder / "out")


def files_in(wheel: Path) -> set[str]:
    return {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}


def test_the_wheel_holds_automix_and_every_file_of_it(wheel):
    wanted = {"automix/" + str(path.relative_to(ROOT / "automix")) for path in here("automix")}
    wanted |= {f"automix/{path.relative_to(ROOT)}" for path in (*here("envs"), *here("agents"))}
    configs = {f"automix/agents/config/{path.relative_to(ROOT)}" for path in here("configs")}
    assert files_in(wheel) == wanted | configs
    kinds = {Path(name).suffix for name in wanted | configs}
    assert kinds == {".py", ".yaml", ".html", ".css", ".json", ".safetensors", ".txt"}


def here(folder: str) -> list[Path]:
    """Return the files of a folder that are no cache; links are not followed."""
    return [
        Path(parent, name)
        for parent, _, names in os.walk(ROOT / folder)
        for name in names
        if "__pycache__" not in parent and not Path(parent, name).is_symlink()
    ]


def test_a_source_archive_and_a_clone_without_links_give_the_same_wheel(wheel, tmp_path):
    archive = built("sdist", wheel.parent.parent / "source", tmp_path / "sdist")
    shutil.unpack_archive(archive, tmp_path, filter="data")
    unpacked = tmp_path / archive.name.removesuffix(".tar.gz")
    assert files_in(built("wheel", unpacked, tmp_path / "first")) == files_in(wheel)
    real = copied(tmp_path / "real", links=False)
    assert files_in(built("wheel", real, tmp_path / "second")) == files_in(wheel)


USED = """
import importlib, runpy, sys
import agents, envs
assert agents.OWNER == "another package" and envs.OWNER == "the user's own folder"
for package, names in {public!r}.items():
    for name in names:
        getattr(importlib.import_module(package), name)
import automix
from automix.policy.shipped import policy_folder

policy = automix.load_policy(policy_folder("digits_full"))
assert policy.action([0.5] * sum(policy.form.observation_sizes)).method in policy.form.methods
print(automix.__file__)
sys.argv = ["automix", "doctor", "--json"]
runpy.run_path({script!r}, run_name="__main__")
"""


def test_an_installed_automix_lives_beside_packages_called_agents_and_envs(wheel, tmp_path):
    """In site-packages another one owns both names, and in the working folder the user does."""
    site, work = tmp_path / "site", tmp_path / "work"
    for folder, owner in ((site, "another package"), (work, "the user's own folder")):
        (folder / "envs").mkdir(parents=True)
        (folder / "envs" / "__init__.py").write_text(f"OWNER = {owner!r}\n")
    (site / "agents").mkdir()
    (site / "agents" / "__init__.py").write_text("OWNER = 'another package'\n")
    pip = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-compile")
    subprocess.run([*pip, "--target", site, wheel], check=True, timeout=120)
    about = f"automix-{automix.__version__}.dist-info"
    assert {path.name for path in site.iterdir()} == {"agents", "envs", "automix", about, "bin"}

    program = USED.format(public=PUBLIC, script=str(site / "bin" / "automix"))
    used = python(program, cwd=work, path=site)
    assert used.returncode == 0, used.stderr
    where, _, doctor = used.stdout.partition("\n")
    assert where == str(site / "automix" / "__init__.py")
    found = json.loads(doctor)
    assert found["one tiny episode"].startswith("ok")
    assert found["automix"] == automix.__version__


# Extras ------------------------------------------------------------------------------------------

IMPORTED_AS = {"hydra_core": "hydra", "scikit_learn": "sklearn"}

DOORS = (
    # blocked, what is done, the extra that is named; a command line or a statement of Python
    ("click", "list", "learn"),
    ("hydra", "config", "learn"),
    ("ray", "sweep seed=1,2 --run-dir {folder}/run", "ray"),
    ("matplotlib", "sweep seed=1,2 --run-dir {folder}/run", "report"),
    ("matplotlib", "train --run-dir {folder}/run", "report"),
    ("ray", "train backend=ray workers=1 --run-dir {folder}/run", "ray"),
    (
        "optuna",
        "compare compare.contestants=[none,optuna] compare.search_epochs=999 "
        "--run-dir {folder}/run",
        "controls",
    ),
    ("jinja2", "report {folder}", "report"),
    ("matplotlib", "gallery --out {folder}/mixes.png", "report"),
    ("sklearn", "from automix.data.digits import digits; digits(None)", "learn"),
    ("sklearn", "from automix.data.drawn.patches import patches; patches(None)", "learn"),
    ("matplotlib", "from automix.data.drawn.letters import letters; letters(None)", "report"),
    ("torchmetrics", "from automix.training.evaluation import _scores as s; s(x, x)", "learn"),
    ("gymnasium", "import automix.envs", "learn"),
    ("onnx", "export digits_full --out {folder}/out --format onnx", "onnx"),
)

AT_THE_DOORS = """
import contextlib, io, json, sys
import torch
x = torch.ones(2, 2)
from automix.agents.cli import run

for name, does, _ in {doors!r}:
    for module in [m for m in sys.modules if m == "automix.envs" or m.startswith(name)]:
        del sys.modules[module]
    sys.modules[name] = None
    told = io.StringIO()
    with contextlib.redirect_stderr(told), contextlib.redirect_stdout(told):
        try:
            if " import " in f" {{does}}":
                exec(does)
            else:
                sys.argv = ["automix", *does.split()]
                run()
            code = None
        except SystemExit as end:
            code = end.code
        except ImportError as error:
            code = error.exit_code
            print("error:", error)
    del sys.modules[name]
    print(json.dumps([code, told.getvalue().splitlines()[:1]]))
"""


def test_the_extras_are_those_of_the_project():
    extras = PROJECT["optional-dependencies"]
    for extra, packages in EXTRAS.items():
        names = [re.split(r"[\[<>=~!]", line)[0].replace("-", "_") for line in extras[extra]]
        own = [IMPORTED_AS.get(name, name) for name in names if name != "automix"]
        assert sorted(own) == sorted(packages), extra


def test_a_missing_extra_is_named_in_one_line(tmp_path):
    """In a process in which one package after the other cannot be imported."""
    doors = [(name, does.format(folder=tmp_path), extra) for name, does, extra in DOORS]
    done = python(AT_THE_DOORS.format(doors=doors))
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    for (name, does, extra), answer in zip(DOORS, answers, strict=True):
        told = f'error: {name} is not installed: pip install "automix[{extra}]"'
        assert answer == [4, [told]], does
    assert not list(tmp_path.iterdir())  # said before any work was done


WITHOUT_EXTRAS = """
import importlib, pkgutil, sys
for name in {names!r}:
    sys.modules[name] = None
import automix
import torch
for room in {rooms!r}:
    path = f"{{automix.__path__[0]}}/{{room}}"
    for module in pkgutil.walk_packages([path], f"automix.{{room}}."):
        importlib.import_module(module.name)
from automix.data import DATASETS
from automix.mixes import MIXES
from automix.policy.shipped import policy_folder

assert list(MIXES) and list(DATASETS)
for name in automix.__all__:
    getattr(automix, name)
folder = policy_folder("digits_full")
policy = automix.load_policy(folder)
policy.action([0.5] * sum(policy.form.observation_sizes))
mixer = automix.load_schedule(folder).mixer(num_classes=10)
mixer.set_progress(0.5)
images, targets = mixer(torch.rand(8, 1, 8, 8), torch.arange(8))
assert targets.shape == (8, 10)
assert not {{"envs", "agents", "automix.envs", "automix.agents"}} & set(sys.modules)
"""


TOP = {"envs", "agents", "integrations"}


def test_mixing_schedules_policies_and_training_need_no_extra():
    """In a process that has imported every module of the rooms below."""
    rooms = {path.parent.name for path in (ROOT / "automix").glob("*/__init__.py")}
    names = [package for packages in EXTRAS.values() for package in packages]
    done = python(WITHOUT_EXTRAS.format(names=names, rooms=sorted(rooms - TOP)))
    assert done.returncode == 0, done.stderr


# Public names ------------------------------------------------------------------------------------


def test_the_public_names_are_the_documented_ones():
    for package, names in PUBLIC.items():
        module = importlib.import_module(package)
        assert set(module.__all__) == names
        assert names <= set(dir(module))
        for name in names:
            assert getattr(module, name) is not None
        with pytest.raises(AttributeError, match="no_such_name"):
            module.no_such_name  # noqa: B018


def test_importing_automix_takes_no_time():
    program = "import time; start = time.perf_counter(); import automix, automix.agents, sys\n"
    program += "print(time.perf_counter() - start, {'torch', 'numpy', 'click'} & set(sys.modules))"
    answers = [python(program).stdout.split() for _ in range(3)]
    assert {heavy for _, heavy in answers} == {"set()"}
    assert min(float(seconds) for seconds, _ in answers) < 0.1


def test_the_version_is_written_once_and_in_the_changelog():
    assert "version" not in PROJECT
    assert "version" in PROJECT["dynamic"]
    released = re.findall(r"^## (\d\S*) - \d{4}-\d\d-\d\d$", CHANGELOG, re.MULTILINE)
    assert released[0] == automix.__version__
