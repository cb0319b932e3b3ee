"""Every provider in a training: no trace, honest counts, company, and going on from a snapshot."""

from __future__ import annotations

import copy

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from automix.core.errors import ConfigError
from automix.mixing.actions import PLAIN, MixAction
from automix.nets.create import create_classifier
from automix.saliency import SALIENCY
from automix.training.population import Population
from automix.training.settings import SaliencySettings, TeacherSettings
from tests import tiny
from tests.automix.saliency.planted import models_for
from tests.automix.training import helpers
from tests.automix.training.helpers import digits, ensemble_of, epoch_of
from tests.cases import each
from tests.same import assert_same

every_provider = each("name", list(SALIENCY))
every_net = each("name, model", [(name, model) for name in SALIENCY for model in models_for(name)])
MEASURED, TRAINED = 20 + 30, 60


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Settings that give every provider what it needs."""
    path = tmp_path_factory.mktemp("teacher") / "net.safetensors"
    net = create_classifier("small_cnn_w8", num_classes=7, shape=(1, 8, 8), seed=5)
    save_file(net.state_dict(), path)
    return {
        "model_ema": True,
        "model_ema_decay": 0.8,
        "teacher": TeacherSettings(model="small_cnn_w8", weights=str(path)),
    }


def population_of(members=1, images=60, **changes):
    settings = tiny.trainer_settings(**changes)
    population = Population([digits(images)] * members, settings, stack_limit=4)
    population.reset([0] * members)
    return population


def guided(name, ratio=0.5):
    return MixAction("rmix", ratio, name)


def state_of(ensemble):
    net = ensemble._net
    return {name: value.clone() for name, value in net.state_dict().items()}


@every_net
@each("members", [1, 2])
def test_a_look_leaves_no_trace_and_an_image_is_recorded_once(name, model, members, trained):
    population = population_of(members, model=model, **trained)
    ensemble = ensemble_of(population)
    before = state_of(ensemble)
    with epoch_of(ensemble, [guided(name)] * members) as (batches, _):
        draws = torch.get_rng_state()
        batch = next(batches)
        assert_same(state_of(ensemble), before)
        assert torch.equal(torch.get_rng_state(), draws)
        assert all(weight.grad is None for weight in ensemble._net.parameters())
        ensemble._stack(batch.images)
    counts = [v for k, v in ensemble._net.state_dict().items() if k.endswith("num_batches_tracked")]
    assert counts or model == "vit_digits"
    assert all(int(count) == 1 for count in counts)


@every_provider
@each("members", [1, 2])
def test_passes_are_those_of_the_tag(name, members, trained):
    population = population_of(members, model=models_for(name)[0], **trained)
    entry = SALIENCY.entry(name)
    forward, backward = entry.info.passes
    records = population.run_epoch([guided(name), PLAIN][:members])
    assert records[0].forward_passes == (1 + forward) * TRAINED + MEASURED
    assert records[0].backward_passes == (1 + backward) * TRAINED
    assert [r.backward_passes for r in records[1:]] == [TRAINED] * (members - 1)


@every_net
def test_a_member_in_company_is_what_it_is_alone(name, model, trained):
    """Of four, two play it, with ratios of their own, and a method without steps in its mask."""
    changes = {"model": model, "lr": 0.05, "images": 20} | trained
    mixup = [MixAction("mixup", ratio, name) for ratio in (0.3, 0.5)]
    actions = [PLAIN, mixup[0], MixAction("cutmix", 0.5), mixup[1]]
    together = population_of(4, **changes)
    for _ in range(2):
        company = together.run_epoch(actions)
    for member in (1, 0):
        alone = population_of(**changes)
        for _ in range(2):
            (record,) = alone.run_epoch([actions[member]])
        helpers.assert_close(company[member], record)
        states = [p.state_dict()["members"] for p in (together, alone)]
        for part in ("classifier", "average"):
            got, wanted = states[0][member][part], states[1][0][part]
            assert got.keys() == wanted.keys()
            for key in wanted:
                assert_close(got[key], wanted[key], atol=2e-3, rtol=2e-3)


@every_net
def test_going_on_from_a_snapshot_is_going_on(name, model, trained):
    population = population_of(2, images=20, model=model, **trained)
    actions = [guided(name), guided(name, 0.3)]
    population.run_epoch(actions)
    kept = population.state_dict()
    untouched = copy.deepcopy(kept)
    wanted = population.run_epoch(actions), population.state_dict()
    assert_same(kept, untouched)
    other = population_of(2, images=20, model=model, **trained)
    other.run_epoch([PLAIN, PLAIN])
    for again in (population, other):
        again.load_state_dict(kept)
        assert_same((again.run_epoch(actions), again.state_dict()), wanted)


@every_provider
@each("settings", [SaliencySettings(refresh=2), SaliencySettings(scale=2)])
def test_asking_less_works_but_where_the_pass_trains(name, settings, trained):
    population = population_of(2, model=models_for(name)[1], saliency=settings, **trained)
    before = state_of(ensemble_of(population))
    if name == "gradient_reuse":
        with pytest.raises(ConfigError, match=r"trainer\.saliency\.(refresh|scale) is 2") as error:
            population.run_epoch([PLAIN, guided(name)])
        assert "=1, or use 'gradient'" in error.value.hint
        assert_same(state_of(ensemble_of(population)), before)
    else:
        for _ in range(2):
            records = population.run_epoch([PLAIN, guided(name)])
        assert not records[1].diverged
        assert records[1].backward_passes <= 2 * TRAINED


@every_provider
def test_half_precision_guides_too(name, trained):
    model = models_for(name)[0]
    population = population_of(2, model=model, precision="bfloat16", **trained)
    with epoch_of(ensemble_of(population), [guided(name)] * 2) as (batches, _):
        assert bool(next(batches).images.isfinite().all())


@each("name", ["cam", "gradcam"])
def test_a_net_without_a_feature_map_is_refused_with_a_provider_that_works(name):
    population = population_of(model="dropout_cnn_for_tests")
    with pytest.raises(ConfigError, match="does not show its last feature map") as error:
        population.run_epoch([guided(name)])
    assert "gradient" in error.value.hint
