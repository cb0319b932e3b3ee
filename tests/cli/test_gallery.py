"""``gallery``: its words, what it prints, what it writes."""

from __future__ import annotations

import json
from pathlib import Path

from tests.agents.tiny_run import WORDS
from tests.cli.conftest import everything_below


def test_names_may_stand_one_by_one_or_with_commas(cli):
    many = ("cutmix", "none", "--mixes", "mixup,rmix@0.1")
    outcome = cli("gallery", "--mixes", *many, *WORDS, "--ratios", "0.5", "--saliency", "off")
    assert outcome.code == 0, outcome.err
    assert outcome.err.count("images: digits: 1,797 images") == 1
    assert outcome.out == f"4 forms in {Path('gallery.png').absolute()}\n"
    assert everything_below(Path.cwd()) == ["gallery.png"]


def test_json_names_the_rows(cli):
    outcome = cli("gallery", *WORDS, "--mixes", "cutmix@0.5+spectral", "--out", "x.png", "--json")
    made = str(Path("x.png").absolute())
    wanted = {"gallery": made, "forms": ["cutmix@0.5+spectral"], "skipped": {}}
    assert json.loads(outcome.out) == wanted


def test_many_rows_that_are_left_out_for_one_reason_share_a_line(cli):
    many = ("--mixes", "cutmix,fmix,gridmix,mixup,rmix", "--saliency", "off,teacher")
    outcome = cli("gallery", *WORDS, *many, "--ratios", "0.5")
    assert outcome.out.startswith("5 forms in ")
    assert outcome.err.splitlines()[-1] == (
        "left out cutmix@0.5+teacher, fmix@0.5+teacher, gridmix@0.5+teacher and 2 more: "
        "saliency 'teacher' is part of a training run; these images are mixed outside"
    )


def test_what_cannot_be_used_is_refused_in_one_line(cli):
    for words, says in [
        (("--mixes", "cutmx"), "'cutmx' is not a mix method. Did you mean 'cutmix'?"),
        (("--mixes", "cutmix", "rmx"), "Did you mean 'rmix'?"),
        (("seed",), "'seed' is not an override"),
        (("--ratios", "a"), "--ratios is 'a'"),
        (("--ratios", "0.7"), "0.7"),
        (("--saliency", "spectrl"), "Did you mean 'spectral'?"),
        (("--out", "x.jpg"), "--out is x.jpg"),
    ]:
        cli("gallery", *words).assert_refused(2, says)
    assert everything_below(Path.cwd()) == []
