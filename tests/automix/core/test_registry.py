"""One table type: names, facts, closest matches, and files that register themselves."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from automix.core.errors import ConfigError
from automix.core.registry import Info, Registry
from automix.labels import LABEL_RULES
from automix.masks.pairing import PAIRINGS
from automix.mixes import MIXES
from automix.saliency import SALIENCY
from tests.cases import each


@dataclass(frozen=True, kw_only=True)
class FruitInfo(Info):
    green: bool = False
    peel: Callable[[], None] | None = None


@pytest.fixture
def fruits():
    registry = Registry("fruit", FruitInfo)

    @registry.register("pear", FruitInfo(green=True))
    def pear():
        """A pear.

        More about it.
        """

    registry.register("apple")(lambda: None)
    return registry


def test_a_name_finds_its_thing_its_facts_and_its_first_line(fruits):
    entry = fruits.entry("pear")
    assert fruits["pear"] is entry.value
    assert (entry.name, entry.info, entry.summary) == ("pear", FruitInfo(green=True), "A pear.")
    assert fruits.info("apple") == FruitInfo()
    assert fruits.info("pear").facts == {"green": True}
    assert FruitInfo(peel=print).facts == {"green": False}, "functions cannot be printed"
    assert fruits.entry("apple").summary == ""


def test_names_come_sorted(fruits):
    assert list(fruits) == ["apple", "pear"]
    assert [entry.name for entry in fruits.entries()] == ["apple", "pear"]
    assert len(fruits) == 2


def test_an_unknown_name_is_told_its_neighbour_and_all_others(fruits):
    assert "pera" not in fruits
    with pytest.raises(ConfigError) as error:
        fruits["pera"]
    assert error.value.message == "'pera' is not a fruit. Did you mean 'pear'?"
    assert error.value.hint == "known: apple, pear"
    with pytest.raises(ConfigError) as error:
        fruits["zzzzzz"]
    assert error.value.message == "'zzzzzz' is not a fruit."


def test_a_name_is_given_once(fruits):
    with pytest.raises(ValueError, match="fruit 'pear' is registered twice"):
        fruits.register("pear")(lambda: None)


def test_the_decorator_returns_the_thing_itself(fruits):
    def plum():
        """Plum."""

    assert fruits.register("plum")(plum) is plum


@pytest.fixture
def toy_package(tmp_path, monkeypatch):
    folder = tmp_path / "toy_mixes"
    folder.mkdir()
    (folder / "__init__.py").write_text(
        "from automix.core.registry import Info, Registry\n"
        "TOYS = Registry('toy mix', Info, __name__)\n"
    )
    (folder / "half.py").write_text(
        "from toy_mixes import TOYS\n"
        "@TOYS.register('half')\n"
        "def half(draw):\n"
        "    '''Paste the left half.'''\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "toy_mixes"]:
        del sys.modules[name]


def test_a_file_dropped_into_the_folder_registers_itself(toy_package):
    import toy_mixes

    assert "toy_mixes.half" not in sys.modules, "found before anybody asked"
    assert list(toy_mixes.TOYS) == ["half"]
    assert toy_mixes.TOYS.entry("half").summary == "Paste the left half."


@each(
    "registry, names",
    [
        (MIXES, {"none", "mixup", "cutmix", "rmix"}),
        (LABEL_RULES, {"area", "requested"}),
        (SALIENCY, {"gradient", "spectral"}),
        (PAIRINGS, {"derange", "permute", "flip", "roll"}),
    ],
)
def test_the_packages_own_tables_hold_at_least_the_published_names(registry, names):
    assert names <= set(registry)
    assert all(entry.summary for entry in registry.entries()), "each says what it does"


def test_each_provider_tells_its_passes():
    for entry in SALIENCY.entries():
        forward, backward = entry.info.passes
        assert forward >= backward >= 0


def test_what_a_thing_must_state_cannot_be_left_out():
    with pytest.raises(TypeError, match="passes"):
        SALIENCY.register("new_for_tests")
