"""From words to settings: what is understood, and what a mistake is told."""

from __future__ import annotations

import math
from dataclasses import asdict, fields, is_dataclass
from typing import get_type_hints

import pytest
import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from automix.agents.config.compose import CONFIGS, composed, groups, keys, load_settings, sets
from automix.agents.config.schema import build, schema_of
from automix.agents.config.settings import RunSettings
from automix.agents.runs.rundir import plain
from automix.core.errors import ConfigError

EVERY_OPTION = [(group, option) for group, options in groups().items() for option in options]

NEEDS = {"npz": ["task.root=some.npz"], "folder": ["task.root=some"]}
"""Words that an option asks its user for."""


@pytest.mark.parametrize(("group", "option"), EVERY_OPTION)
def test_every_options_file_composes_and_builds(group, option):
    settings = load_settings([f"{group}={option}", *NEEDS.get(option, [])])
    written = yaml.safe_load((CONFIGS / group / f"{option}.yaml").read_text(encoding="utf-8"))
    built = plain(asdict(settings))
    written.pop("defaults", None)  # files that it stands on
    # Each value of the file has arrived; a later group may have the last word on none of them.
    for section, values in written.items():
        assert holds(built[section], values), section


def holds(got, wanted) -> bool:
    """Return whether every value of a tree is in another one."""
    if isinstance(wanted, dict):
        return all(holds(got[key], value) for key, value in wanted.items())
    return got == (float(wanted) if isinstance(got, float) else wanted)


def test_an_experiment_stands_on_its_task_and_words_have_the_last_word():
    assert load_settings([]).published == ""
    settings = load_settings(["trainer.epochs=2", "experiment=tiny_imagenet_rmix"])
    assert settings.task.image_size == 64
    assert (settings.trainer.epochs, settings.trainer.sched) == (2, "onecycle")
    assert load_settings(["experiment=cifar100_rmix", "task=npz"]).task.dataset == "npz"


def test_it_is_known_which_keys_the_words_themselves_set():
    words = ["experiment=cifar100_rmix", "compare.contestants=[none]"]
    assert sets(words, "compare.contestants")
    assert not sets(words[:1], "compare.contestants")
    assert not sets(words, "compare.seeds")


def test_every_yaml_file_opens_with_what_it_is_for():
    for path in CONFIGS.rglob("*.yaml"):
        head = path.read_text(encoding="utf-8").split("\n")
        comments = [line for line in head[:2] if line.startswith("# ") and "@package" not in line]
        assert comments, path


def test_the_schema_has_the_fields_and_defaults_of_the_settings():
    """Composed from nothing, it is the settings themselves."""
    made = OmegaConf.to_container(OmegaConf.structured(schema_of(RunSettings)))
    assert build(RunSettings, made) == RunSettings()
    assert made == plain(asdict(RunSettings()))


def test_every_key_is_found_dotted_and_its_sections_too():
    def walk(settings, prefix=""):
        hints = get_type_hints(settings)
        for field in fields(settings):
            yield prefix + field.name
            if is_dataclass(hints[field.name]):
                yield from walk(hints[field.name], f"{prefix}{field.name}.")

    assert set(keys()) == set(walk(RunSettings))
    assert {"seed", "trainer", "trainer.mix.pairing", "env.actions.methods"} <= set(keys())


def test_nothing_said_is_the_digits_family_and_ppo():
    settings = load_settings([])
    assert settings.task.dataset == "digits"
    assert settings.agent.name == "ppo"
    assert settings.env.reward.baseline == "group"


def test_words_have_the_last_word():
    settings = load_settings(
        [
            "task=npz",
            "task.root=my images.npz",
            "seed=3",
            "agent.learning_rate=1e-3",
            "agent.net_arch=[32]",
            "env.actions.methods=[none,cutmix]",
            "env.actions.ratios=[0,0.5]",
            "trainer.mix.share_per=batch",
            "compare.contestants=[none,'fixed:cutmix@0.5']",
            "task.train_sizes=[50]",
        ]
    )
    assert settings.task.dataset == "npz"
    assert settings.task.root == "my images.npz"
    assert settings.seed == 3
    assert settings.agent.learning_rate == 1e-3
    assert settings.agent.net_arch == (32,)
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
        composed(["seed=x"])
    assert not GlobalHydra.instance().is_initialized()


REFUSED = {
    "trainr.epochs=3": "no key 'trainr.epochs'.* 'trainer.epochs'",
    "epochs=3": "no key 'epochs'.* 'trainer.epochs'",
    "agent.lrr=1": "no key 'agent.lrr'",
    "agent.learning_rat=1": "no key 'agent.learning_rat'.* 'agent.learning_rate'",
    "sed=1": "no key 'sed'.* 'seed'",
    "task=cifr10": "there is no task 'cifr10'.* 'cifar10'",
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
    "agent.learning_rate=inf": "agent.learning_rate is inf",
    "agent.learning_rate_end=nan": "agent.learning_rate_end is nan",
    "agent.ent_coef=-1": "agent.ent_coef is -1.0, wanted 0",
    "agent.vf_coef=inf": "agent.vf_coef is inf",
    "agent.net_arch=[]": r"agent.net_arch is \[\]",
    "agent.net_arch=[0]": r"agent.net_arch is \[0\]",
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


@pytest.mark.parametrize(("word", "told"), REFUSED.items(), ids=list(REFUSED))
def test_a_word_that_cannot_be_used_is_named_with_what_was_wanted(word, told):
    with pytest.raises(ConfigError, match=told) as error:
        load_settings([word])
    assert "\n" not in error.value.message
    assert "\n" not in error.value.hint


@pytest.mark.parametrize("word", ["+seed=1", "~seed", "seed=1,2", "seed=abc", "sed=1", "task=x"])
def test_the_hint_says_what_to_write_instead(word):
    with pytest.raises(ConfigError) as error:
        load_settings([word])
    assert error.value.hint


def test_numbers_that_are_fine_are_not_refused():
    settings = load_settings(["agent.gamma=1", "agent.ent_coef=0", "trainer.warmup_epochs=0"])
    assert settings.agent.gamma == 1.0
    assert math.isfinite(settings.agent.ent_coef)
