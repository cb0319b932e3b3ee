"""From overrides to settings: what is understood, and what a mistake is told."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from automix.agents.config import compose
from automix.agents.config.agent import AGENTS, AgentSettings, names_of, settings_class
from automix.agents.config.compose import (
    CONFIGS,
    choices_of,
    groups,
    keys,
    load_settings,
    read_section,
    sets,
    settings_of,
)
from automix.agents.config.schema import build, schema_of
from automix.agents.config.settings import RunSettings
from automix.agents.runs.rundir import plain
from automix.core.errors import ConfigError


@dataclass(frozen=True)
class Named:
    """A section with a name."""

    name: str = ""


NEEDS = {"npz": ["task.root=some.npz"], "folder": ["task.root=some"]}
"""Overrides that an option asks its user for."""


def test_every_options_file_composes_builds_and_opens_with_what_it_is_for():
    for group, options in groups().items():
        for option in options:
            settings = load_settings([f"{group}={option}", *NEEDS.get(option, [])])
            path = CONFIGS / group / f"{option}.yaml"
            written = yaml.safe_load(path.read_text(encoding="utf-8"))
            built = plain(asdict(settings))
            written.pop("defaults", None)  # files that it stands on
            # Each value has arrived; a later group may have the last word on none of them.
            for section, values in written.items():
                assert holds(built[section], values), (path, section)
            assert opens_with_a_comment(path), path
    assert opens_with_a_comment(CONFIGS / "config.yaml")


def holds(got, wanted) -> bool:
    """Return whether every value of a tree is in another one."""
    if isinstance(wanted, dict):
        return all(holds(got[key], value) for key, value in wanted.items())
    return got == (float(wanted) if isinstance(got, float) else wanted)


def opens_with_a_comment(path: Path) -> bool:
    head = path.read_text(encoding="utf-8").split("\n")[:2]
    return any(line.startswith("# ") and "@package" not in line for line in head)


def test_an_experiment_stands_on_its_task_and_overrides_have_the_last_word():
    assert load_settings([]).published == ""
    settings = load_settings(["trainer.epochs=2", "experiment=tiny_imagenet_rmix"])
    assert settings.task.image_size == 64
    assert (settings.trainer.epochs, settings.trainer.sched) == (2, "onecycle")
    assert load_settings(["experiment=cifar100_rmix", "task=npz"]).task.dataset == "npz"


def test_an_experiment_is_asked_without_its_suite():
    settings = load_settings(["experiment=worlds", "worlds=[]", "task=digits", "env.decisions=4"])
    assert (settings.worlds.suite, settings.task.dataset) == ({}, "digits")
    assert (settings.env.decisions, settings.env.reward.harm) == (4, 1.0)


def test_it_is_known_which_keys_the_overrides_themselves_set():
    overrides = ["experiment=cifar100_rmix", "compare.contestants=[none]"]
    assert sets(overrides, "compare.contestants")
    assert not sets(overrides[:1], "compare.contestants")
    assert not sets(overrides, "compare.seeds")


def test_the_schema_has_the_fields_and_defaults_of_the_settings():
    """Composed from nothing, it is the settings themselves."""
    schema = schema_of(RunSettings, settings_class("ppo"))
    made: Any = OmegaConf.to_container(OmegaConf.structured(schema))
    assert build(RunSettings, made) == RunSettings()
    assert made == plain(asdict(RunSettings()))


def test_every_key_is_found_dotted_and_its_sections_too():
    def walk(values, prefix=""):
        for name, value in values.items():
            yield prefix + name
            if isinstance(value, dict):
                yield from walk(value, f"{prefix}{name}.")

    wanted = set(walk(asdict(RunSettings())))
    for agent in AGENTS:
        wanted |= {f"agent.{name}" for name in names_of(settings_class(agent))}
    assert set(keys()) == wanted
    assert {"seed", "trainer", "trainer.mix.pairing", "env.actions.methods"} <= wanted


def test_overrides_have_the_last_word_and_the_rest_is_the_digits_family_and_ppo():
    settings = load_settings([])
    assert settings.task.dataset == "digits"
    assert settings.agent.name == "ppo"
    assert settings.env.reward.baseline == "group"
    words = ["task=npz", "task.root=my images.npz", "task.train_sizes=[50]", "seed=3"]
    words += ["agent.learning_rate=1e-3", "agent.net_arch=[32]", "agent.gamma=1"]
    words += ["agent.ent_coef=0", "env.actions.methods=[none,cutmix]", "env.actions.ratios=[0,0.5]"]
    words += ["trainer.mix.share_per=batch", "compare.contestants=[none,'fixed:cutmix@0.5']"]
    settings = load_settings(words)
    assert settings.task.dataset == "npz"
    assert settings.task.root == "my images.npz"
    assert settings.seed == 3
    agent = asdict(settings.agent)
    assert (agent["learning_rate"], agent["net_arch"]) == (1e-3, (32,))
    assert (agent["gamma"], agent["ent_coef"]) == (1.0, 0.0)
    assert settings.env.actions.methods == ("none", "cutmix")
    assert settings.env.actions.ratios == (0.0, 0.5)
    assert [type(ratio) for ratio in settings.env.actions.ratios] == [float, float]
    assert settings.trainer.mix.share_per == "batch"
    assert settings.compare.contestants == ("none", "fixed:cutmix@0.5")
    assert settings.task.train_sizes == (50,)


def test_hydras_global_state_is_left_alone():
    load_settings([])
    assert not GlobalHydra.instance().is_initialized()
    with pytest.raises(ConfigError):
        compose.composed(["seed=x"])
    assert not GlobalHydra.instance().is_initialized()


ODD_NAMES = (
    *("/tmp/Bilder (1)/x", "a=b", "ä ö", "a,b", "[x]", "{a: b}", "1e3", "0012", "true", "null"),
    *("x:y", "C:\\data\\", "a'b\"c\\", '\\"', "'a", 'a"', "$HOME", "~x", "@x", "#1", "*", "日本語"),
    *("  a", "a\tb", "a\nb", "%d", "()", "a=[1,2]"),
)


def test_names_of_files_and_folders_are_taken_literally():
    for name in ODD_NAMES:
        settings = load_settings([f"task.root={name}", f"policy={name}"])
        assert (settings.task.root, settings.policy) == (name, name)
    for name in ("Versuch (2)", "a=b", "3"):
        assert load_settings([f"name={name}"]).name == name
    words = ("trainer.teacher.model=resnet18", "trainer.teacher.weights=ä (1).safetensors")
    assert load_settings(words).trainer.teacher.weights == "ä (1).safetensors"
    assert read_section(Named, "sweep", ["sweep.name=größe=3"]).name == "größe=3"
    for quoted in ("'my images.npz'", '"my images.npz"'):
        assert load_settings([f"task.root={quoted}"]).task.root == "my images.npz"
    assert sets(["task.root=ä(1)"], "task.root")


def test_a_sweep_may_offer_several_of_them():
    offered = choices_of(["task.root=a.npz,b.npz", "task.root=ä", "name=x (1)"])
    assert [choice.words for choice in offered] == [
        ["task.root=a.npz", "task.root=b.npz"],
        ["task.root=ä"],
        ["name=x (1)"],
    ]


def test_where_text_wants_quotes_the_hint_can_be_typed_as_it_is():
    for override, key in (
        ("trainer.model=a=b", "trainer.model"),
        ("task.dataset=hfds/me/set(1)", "task.dataset"),
        ("device=größe", "device"),
        ("trainer.sched=it's", "trainer.sched"),
    ):
        with pytest.raises(ConfigError, match="is not an override") as error:
            load_settings([override])
        (typed,) = shlex.split(error.value.hint.partition(": ")[2])
        section, _, name = key.rpartition(".")
        settings = load_settings([typed])
        found = getattr(getattr(settings, section) if section else settings, name)
        assert f"{key}={found}" == override


def test_a_number_that_is_not_finite_is_refused_wherever_it_stands():
    numbers = {name: value for name, value in keys().items() if type(value) is float}
    for name in numbers:
        agents = [agent for agent in AGENTS if name[6:] in names_of(settings_class(agent))]
        chosen = [f"agent.name={agents[0]}"] if name.startswith("agent.") else []
        for value in ("inf", "-inf", "nan"):
            with pytest.raises(ConfigError, match=f"{name.split('.')[-1]} is {value}, wanted"):
                load_settings([*chosen, f"{name}={value}"])
    for name in ("env.actions.ratios", "task.label_noise"):
        with pytest.raises(ConfigError, match=f"{name} is inf, wanted a finite number"):
            load_settings([f"{name}=[0.1,inf]"])


# Agents -----------------------------------------------------------------------------------------


def test_an_agent_has_its_own_settings_only_and_is_chosen_by_group_or_by_name():
    for name in AGENTS:
        assert settings_class(name)().name == name
        assert set(names_of(AgentSettings)) < set(names_of(settings_class(name)))
    settings = load_settings(["agent=sac"])
    assert type(settings.agent) is settings_class("sac")
    assert "clip_range" not in asdict(settings.agent)
    assert load_settings(["agent.name=td3"]).agent == settings_class("td3")()


def test_a_setting_of_another_agent_is_refused_wherever_it_comes_from():
    for overrides, told, hint in (
        (["agent=dqn", "agent.clip_range=0.3"], "clip_range is 0.3, but agent dqn", "buffer_size"),
        (["agent.tau=0.5"], "agent.tau is 0.5, but agent ppo does not use it", "leave it out"),
        (["agent=sac", "agent.name=ppo"], "agent.gradient_steps is 4, but agent ppo", "clip_range"),
        (["agent=ars", "experiment=digits_full"], "batch_size is 160, but agent ars", "n_top"),
    ):
        with pytest.raises(ConfigError, match=told) as error:
            load_settings(overrides)
        assert hint in error.value.hint


def test_a_config_of_a_run_that_wrote_the_settings_of_all_agents_is_read():
    values = plain(asdict(load_settings(["agent=sac"])))
    old = {**values, "agent": {"clip_range": 0.2, "n_top": 8, **values["agent"]}}
    assert settings_of(old, "config.yaml") == load_settings(["agent=sac"])
    with pytest.raises(ConfigError, match=r"^config\.yaml: agent\.clip_rage: "):
        settings_of({**values, "agent": {"clip_rage": 0.2, **values["agent"]}}, "config.yaml")


# Refused ----------------------------------------------------------------------------------------

REFUSED = {
    "trainr.epochs=3": "no key 'trainr.epochs'.* 'trainer.epochs'",
    "epochs=3": "no key 'epochs'.* 'trainer.epochs'",
    "agent.lrr=1": "no key 'agent.lrr'",
    "agent.learning_rat=1": "no key 'agent.learning_rat'.* 'agent.learning_rate'",
    "sed=1": "no key 'sed'.* 'seed'",
    "task=cifr10": "there is no task 'cifr10'.* 'cifar10'",
    "agent.name=ppoo": "'ppoo' is not a.* agent.* 'ppo'",
    "agent.name=null": "'None' is not a",
    "agent.name=[a]": "is not a|agent.name",
    "agent=pppo": "there is no agent 'pppo'.* 'ppo'",
    "tsk=digits": "no key 'tsk'.* 'task'",
    "task=[digits,npz]": "there is no task",
    "task=digits,npz": "gives several values",
    "seed=1,2": "gives several values, wanted one",
    "agent.net_arch=[8],[16]": "gives several values",
    "+seed=1": "can neither be added nor removed",
    "++seed=1": "can neither be added nor removed",
    "+model=x": "can neither be added nor removed",
    "~seed": "can neither be added nor removed",
    "~agent": "can neither be added nor removed",
    "seed": "'seed' is not an override, wanted key=value",
    "=3": "'=3': there is no key ''",
    "seed=[1": "is not an override",
    "": "'' is not an override",
    "seed=abc": "seed: .*abc",
    "seed=null": "seed: ",
    "seed=1.5": "seed: .*1.5",
    "seed=": "seed: ",
    "agent.learning_rate=abc": "agent.learning_rate: .*abc.* Float",
    "task.download=perhaps": "task.download: .*perhaps",
    "agent.net_arch=64": "agent.net_arch: ",
    "env.actions.methods=cutmix": "env.actions.methods: ",
    "trainer=3": "'trainer' is a section, wanted one of its keys",
    "trainer={epochs: 3}": "'trainer' is a section",
    "trainer.mix={lam: 2}": "'trainer.mix' is a section",
    "env.reward=final": "'env.reward' is a section",
    "name=${oc.env:HOME}": "interpolation is not offered",
    "task.root=${task.dataset}": "task.root is .*interpolation is not offered",
    "compare.contestants=[none,${name}]": "compare.contestants is .*interpolation",
    "seed=${missing}": "interpolation|seed",
    "seed=???": "seed",
    "task._target_=os.system": "no key 'task._target_'",
    "hydra.run.dir=x": "no key 'hydra.run.dir'",
    "experiment=x": "there is no experiment 'x'",
    "experiment=null": "there is no experiment 'None'",
    "published=cifar": "published is 'cifar', which is no set of figures. .*'cifar100'",
    "trainer.onecycle.pct_start=2": "trainer.onecycle.pct_start is 2.0",
    "trainer.decay_milestones=[9,3]": "trainer.decay_milestones is .*rising",
    "seed=-1": "seed is -1, wanted 0 or more",
    "workers=-1": "workers is -1, wanted 0 or more",
    "threads=0": "threads is 0, wanted 1 or more",
    "name=../../etc/x": "name is '../../etc/x', wanted one folder name",
    "name=.hidden": "name is '.hidden'",
    "agent.gamma=1.5": "agent.gamma is 1.5, wanted a number from 0.0 to 1.0",
    "agent.gamma=nan": "agent.gamma is nan",
    "agent.gae_lambda=-0.1": "agent.gae_lambda is -0.1",
    "agent.groups=0": "agent.groups is 0, wanted 1 or more",
    "agent.group_size=0": "agent.group_size is 0, wanted 1 or more",
    "agent.n_epochs=0": "agent.n_epochs is 0",
    "agent.batch_size=0": "agent.batch_size is 0",
    "agent.learning_rate=0": "agent.learning_rate is 0.0, wanted a number above 0",
    "agent.learning_rate=inf": "agent.learning_rate is inf, wanted a number above 0, .*, finite",
    "agent.learning_rate=1e30": r"agent.learning_rate is 1e\+30, wanted .* above 0, at most 1000",
    "agent.learning_rate_end=1e300": r"agent.learning_rate_end is 1e\+300, .* from 0 to 1000",
    "agent.ent_coef=1e300": r"agent.ent_coef is 1e\+300, wanted a number from 0 to 1000000",
    "agent.learning_rate_end=nan": "agent.learning_rate_end is nan",
    "agent.ent_coef=-1": "agent.ent_coef is -1.0, wanted a number from 0",
    "agent.vf_coef=inf": "agent.vf_coef is inf",
    "agent.net_arch=[]": r"agent.net_arch is \[\]",
    "agent.net_arch=[0]": r"agent.net_arch is \[0\]",
    "checkpoint.share=-0.1": "checkpoint.share is -0.1, wanted a number from 0 to 1",
    "checkpoint.share=1.1": "checkpoint.share is 1.1",
    "checkpoint.keep=0": "checkpoint.keep is 0, wanted 1 or more",
    "ray.gpus_per_worker=-1": "ray.gpus_per_worker is -1.0, wanted 0 or more",
    "compare.seeds=0": "compare.seeds is 0, wanted 1 or more",
    "compare.resamples=1": "compare.resamples is 1, wanted 100 or more",
    "compare.contestants=[]": "compare.contestants is empty",
    "compare.kinds=[many]": "compare.kinds holds 'many', wanted <train size>@<label noise>",
    "compare.kinds=['100@2']": "compare.kinds holds '100@2'",
    "compare.kinds=['-5@0']": "compare.kinds holds '-5@0'",
    "compare.kinds=['100@0.0','100@0']": "compare.kinds names .* twice",
    "task.train_sizes=[]": "task.train_sizes",
    "task.train_sizes=[-1]": "task.train_sizes holds -1",
    "task.label_noise=[1.0]": "task.label_noise holds 1.0",
    "task.val_size=-1": "task.val_size is -1",
    "task.test_share=1": "task.test_share is 1.0",
    "trainer.epochs=0": "trainer.epochs is 0, wanted 1 or more",
    "trainer.lr=-1": "trainer.lr is -1.0",
    "trainer.lr=nan": "trainer.lr is nan",
    "trainer.label_smoothing=1": "trainer.label_smoothing is 1.0",
    "trainer.mix.concentration=0": "concentration is 0.0",
    "trainer.mix.mix_probability=2": "mix_probability is 2.0",
    "trainer.mix.share_per=images": "share_per is 'images'",
    "trainer.mix.pairing=derang": "'derang' is not a .*'derange'",
    "trainer.mix.label_rule=aera": "'aera' is not a .*'area'",
    "env.actions.methods=[none,cutmx]": "env.actions.methods: 'cutmx' .*'cutmix'",
    "env.actions.ratios=[7]": "env.actions.ratios holds 7.0",
    "env.actions.saliency=[gradeint]": "env.actions.saliency: .*'gradient'",
    "env.actions.space=flt": "env.actions.space is 'flt'",
    "env.reward.name=acuracy_gain": "'acuracy_gain' .*'accuracy_gain'",
    "env.reward.baseline=grp": "env.reward.baseline is 'grp'",
}


def test_an_override_that_cannot_be_used_is_named_with_what_was_wanted():
    for override, told in REFUSED.items():
        with pytest.raises(ConfigError, match=told) as error:
            load_settings([override])
        assert "\n" not in error.value.message + error.value.hint, override
    for override in ("+seed=1", "~seed", "seed=1,2", "seed=abc", "sed=1", "task=x"):
        with pytest.raises(ConfigError) as error:
            load_settings([override])
        assert error.value.hint, override
