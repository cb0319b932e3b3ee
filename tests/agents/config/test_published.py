"""Published figures: whole, tied to contestants that exist, and printed for what they are."""

from __future__ import annotations

import pytest

from automix.agents.cli import tables
from automix.agents.config.compose import groups, load_settings
from automix.agents.config.published import check_name, names, published_figures
from automix.agents.contest.contestants import contestants_of
from automix.core.errors import ConfigError
from automix.nets.create import PROTOCOL_NETS
from tests.cases import each

EXPERIMENTS = [
    name for name in groups()["experiment"] if name.endswith(("_rmix", "_multistep", "_deit"))
]
NETS = [*PROTOCOL_NETS, "resnet50"]
EVERY = [(name, net) for name in names() for net in NETS if published_figures(name, net)["figures"]]


@each("name, net", EVERY)
def test_every_figure_has_all_that_is_printed_of_it(name, net):
    figures = published_figures(name, net)["figures"]
    for figure in figures:
        assert set(figure) == {"contestant", "method", "top1", "source", "verified"}
        assert 50 < figure["top1"] < 90
        assert isinstance(figure["verified"], bool)
        assert figure["method"]
        assert len(figure["source"]) > 10  # in words, not the key
    contestants = [figure["contestant"] for figure in figures if figure["contestant"]]
    assert len(set(contestants)) == len(contestants)
    ours = [name for name in contestants if name != "rlmix"]
    assert [found.name for found in contestants_of(ours, [])] == ours


def test_figures_are_there_for_all_nets_of_the_protocol():
    assert {net for _, net in EVERY} == {*NETS}


def test_what_the_two_readmes_say_is_what_is_printed():
    """R-Mix's and Co-Mixup's, as of their last commits."""
    found = {
        (net, figure["method"]): figure["top1"]
        for net in NETS
        for name in ("cifar100", "imagenet")
        for figure in published_figures(name, net)["figures"]
        if figure["verified"] and "README" in figure["source"]
    }
    assert found == {
        ("preact_resnet18", "CutMix+"): 81.62,
        ("preact_resnet18", "R-Mix"): 81.45,
        ("preact_resnet18", "Co-Mixup"): 80.19,
        ("wide_resnet16_8", "R-Mix"): 82.32,
        ("wide_resnet28_10", "CutMix+"): 83.53,
        ("wide_resnet28_10", "R-Mix"): 84.95,
        ("wide_resnet28_10", "PuzzleMix (400 epochs)"): 84.0,
        ("resnext29_4x24d", "R-Mix"): 83.02,
        ("resnet50", "R-Mix"): 77.39,
    }


@each("experiment", EXPERIMENTS)
def test_an_experiment_plays_the_six_and_names_figures_of_its_net(experiment):
    settings = load_settings([f"experiment={experiment}"])
    assert list(settings.compare.contestants) == [
        *("none", "fixed:mixup@0.5", "fixed:cutmix@0.5p0.5", "fixed:rmix@0.5+gradient"),
        *("rlmix", "agent"),
    ]
    assert settings.trainer.mix.share_per == "batch"
    if experiment != "cifar10_rmix":
        assert published_figures(settings.published, settings.trainer.model)["figures"]


def test_the_protocol_is_the_one_that_was_published():
    """Batch 100, 300 epochs, SGD with Nesterov momentum, crop of 2 and flip, two schedules."""
    names = ("cifar100_rmix", "cifar100_rmix_multistep")
    one, many = (load_settings([f"experiment={name}"]).trainer for name in names)
    for trainer in (one, many):
        assert (trainer.batch_size, trainer.epochs, trainer.opt) == (100, 300, "nesterov")
        assert (trainer.augment.crop_padding, trainer.augment.flip) == (2, 0.5)
        assert (trainer.weight_decay, trainer.momentum) == (1e-4, 0.9)
    assert (one.sched, one.lr, one.onecycle.pct_start) == ("onecycle", 0.2995, 0.3)
    assert (one.onecycle.div_factor, one.onecycle.final_div_factor) == (100, 1e4)
    assert (many.sched, many.lr, many.decay_rate) == ("multistep", 0.2, 0.1)
    assert (many.decay_milestones, many.warmup_epochs) == ((150, 225), 0)


def test_no_name_no_figures_and_a_wrong_one_is_told_its_neighbour():
    assert published_figures("", "resnet50") is None
    check_name("")
    with pytest.raises(ConfigError, match=r"published is 'cifar10', .*Did you mean 'cifar100'"):
        published_figures("cifar10", "resnet50")


# Printing ----------------------------------------------------------------------------------------


def row(name: str) -> dict:
    return {"name": name, "kind": "fixed", "iqm": 0.8, "ci95": (0.7, 0.9), "by_task": {}} | {
        "epochs_spent": 600
    }


def printed(monkeypatch, capsys, published, names_: tuple[str, ...]) -> str:
    monkeypatch.setattr(tables, "console", lambda: tables.Console(width=300))
    result = {"unit": "test accuracy", "tasks": [], "seeds": [1, 2], "draws": 0, "agent_minus": {}}
    result |= {"contestants": [row(name) for name in names_], "enough": True}
    result |= {"best_fixed": None, "oracle": None}
    tables.print_result(result if published is None else result | {"published": published})
    return capsys.readouterr().out


def test_figures_stand_beside_those_who_play_the_same(monkeypatch, capsys):
    figures = published_figures("cifar100", "preact_resnet18")
    playing = ("none", "fixed:rmix@0.5+gradient", "random")
    text = printed(monkeypatch, capsys, figures, playing)
    lines = {line.split()[0]: line.split()[-1] for line in text.splitlines() if line.strip()}
    assert lines["contestant"] == "published"
    assert lines["none"] == "76.41?"
    assert lines["fixed:rmix@0.5+gradient"] == "81.45"
    assert lines["random"] == "600"
    assert "?: unverified" in text
    assert "Not played here: mixup 77.57?, CutMix+ 81.62," in text
    assert "R-Mix's repository" in text


def test_a_net_without_figures_says_so_and_no_set_says_nothing(monkeypatch, capsys):
    text = printed(monkeypatch, capsys, published_figures("imagenet", "resnet18"), ("none",))
    assert "No figures of resnet18 are published under 'imagenet'" in text
    assert "published" not in printed(monkeypatch, capsys, None, ("none",))
    assert "published" not in printed(monkeypatch, capsys, published_figures("", "x"), ("none",))
