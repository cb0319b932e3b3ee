"""The menu benchmark: every form has a row, and what a row says follows from the times."""

from __future__ import annotations

from automix.mixes import MIXES
from automix.mixing.actions import MixAction
from benchmarks.measures import menu
from benchmarks.measures.menu import SIZES


def test_every_form_of_every_image_mix_is_timed():
    timed = {
        MixAction.parse(name).method for name, who in menu.cases_of(SIZES[0]) if who == "automix"
    }
    images = {e.name for e in MIXES.entries() if not (e.info.points or e.info.step)}
    assert timed == images - {"none"}
    assert MixAction("rmix", 0.5, "gradient") in menu.forms()


def test_a_row_tells_the_mix_in_copies_and_steps():
    seconds = {("copy", ""): 1e-3, ("plain step", ""): 1e-1, ("mixup@0.5", "automix"): 5e-2}
    seconds["cutmix@0.5+gradient", "automix"] = 2e-3
    first, second = menu.rows_of(SIZES[0], seconds)
    assert (first["mix"], second["mix"]) == ("cutmix@0.5+gradient", "mixup@0.5")
    assert (first["more passes"], second["more passes"]) == ("1F + 1B", "")
    assert second["copies"] == 50
    assert abs(second["times a plain step"] - 1.5) < 1e-9
