"""The moving average: a slow recursion, in the snapshot, and nothing where it is off."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from automix.core.errors import ConfigError
from automix.mixing.actions import PLAIN, MixAction
from automix.saliency import SALIENCY
from automix.training.population import Population
from tests import tiny
from tests.automix.mixes.drawing import mixed
from tests.automix.saliency import planted
from tests.automix.training.helpers import digits, ensemble_of, epoch_of, watched_mixes
from tests.cases import each
from tests.references import saliency as reference

EMA = MixAction("cutmix", 0.5, "ema")
DECAY = 0.7
every_net = each("model", ["small_cnn_w8", "dropping_cnn_for_tests"])


def population_of(members, **changes):
    changes = {"model_ema": True, "model_ema_decay": DECAY} | changes
    population = Population([digits()] * members, tiny.trainer_settings(**changes))
    population.reset([0] * members)
    return population


def followed(ensemble, slot):
    """A member's average as it is now, by name."""
    return ensemble.state_dict(slot)["average"]


@every_net
@each("actions", [[PLAIN], [PLAIN, EMA, MixAction("mixup", 0.3)]])
def test_it_follows_every_step_whatever_is_played(model, actions):
    """Each number, step by step; whole numbers are those of the net."""
    ensemble = ensemble_of(population_of(len(actions), model=model))
    wanted = [ensemble.state_dict(slot)["classifier"] for slot in range(len(actions))]
    for slot, one in enumerate(wanted):
        assert all(
            torch.equal(value, one[name]) for name, value in followed(ensemble, slot).items()
        )
    with epoch_of(ensemble, actions) as (batches, log):
        for batch in batches:
            ensemble._step(batch, log)
            for slot in range(len(actions)):
                now = ensemble.state_dict(slot)["classifier"]
                for name, value in now.items():
                    if value.is_floating_point():
                        value = DECAY * wanted[slot][name] + (1 - DECAY) * value
                    wanted[slot][name] = value
    for slot, one in enumerate(wanted):
        found = followed(ensemble, slot)
        assert found.keys() == one.keys()
        for name, value in one.items():
            assert_close(found[name], value, atol=1e-6, rtol=1e-4)
        weights = ensemble.state_dict(slot)["classifier"]["fc.weight"]
        assert not torch.allclose(found["fc.weight"], weights, rtol=1e-2)


@each("members", [1, 2])
def test_it_changes_nothing_but_what_asks_it(members):
    trained = [population_of(members, model_ema=on) for on in (True, False)]
    actions = [MixAction("rmix", 0.5, "gradient"), PLAIN][:members]
    records = [population.run_epoch(actions) for population in trained]
    assert records[0] == records[1]


def test_it_costs_nothing_where_it_is_off():
    population = population_of(1, model_ema=False)
    assert ensemble_of(population)._average is None
    assert population.state_dict()["members"][0]["average"] == {}


@each("members", [1, 3])
def test_the_map_is_the_energy_of_the_average_in_evaluation_mode(monkeypatch, members):
    population = population_of(members, model="dropping_cnn_for_tests")
    actions = [PLAIN, PLAIN, EMA][-members:]
    population.run_epoch(actions)
    ensemble = ensemble_of(population)
    average = ensemble._average.stack._nets[members - 1]
    seen = watched_mixes(monkeypatch)
    with epoch_of(ensemble, actions) as (batches, _):
        next(batches)
    images, maps = next((c.images, c.saliency) for c in seen if c.saliency is not None)
    assert not average.training
    for i in (0, 7):
        found = average.forward_features(images[i : i + 1])[0].tolist()
        wanted = reference.shares(reference.bilinear(reference.energy(found), 8, 8))
        assert_close(maps[i], torch.tensor(wanted), atol=1e-6, rtol=1e-4)


def test_a_fork_goes_on_with_the_average_of_its_donor():
    population = population_of(3)
    population.run_epoch([PLAIN, EMA, MixAction("mixup", 0.5)])
    before = [followed(ensemble_of(population), slot) for slot in range(3)]
    population.fork([1, 1, 2])
    after = [followed(ensemble_of(population), slot) for slot in range(3)]
    for found, donor in zip(after, (1, 1, 2), strict=True):
        assert all(torch.equal(found[name], before[donor][name]) for name in found)
    name = "features.0.weight"
    assert not torch.equal(before[0][name], before[1][name])


def test_who_is_asked_must_be_there():
    population = population_of(2, model_ema=False)
    with pytest.raises(ConfigError, match=r"moving average .* is not kept") as error:
        population.run_epoch([PLAIN, EMA])
    assert error.value.hint == "set trainer.model_ema=true, or use 'gradient'"
    assert ensemble_of(population)._updates == 0


def test_mixing_alone_has_no_average():
    with pytest.raises(ConfigError, match="saliency 'ema' is part of a training"):
        mixed(str(EMA), torch.zeros(3, 2, 5, 7), classifier=planted.pooled())
    assert SALIENCY.info("ema").asks == "average"
