"""The clean pass trains: the step's gradient is that of the mixed loss plus the clean loss."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from automix.core.errors import ConfigError
from automix.mixing.actions import PLAIN, MixAction
from automix.nets.create import create_classifier
from automix.training.settings import SaliencySettings
from tests.automix.mixes.drawing import mixed
from tests.automix.saliency.planted import pooled
from tests.automix.training.helpers import digits, ensemble_of, epoch_of, order, population_of
from tests.cases import each

REUSE = MixAction("rmix", 0.5, "gradient_reuse")
GRADIENT = MixAction("rmix", 0.5, "gradient")


def slopes_of(net, *batches):
    """Slopes at the weights of the sum of the batches' mean losses."""
    net.zero_grad()
    for images, targets in batches:
        F.cross_entropy(net(images), targets).backward()
    return {name: weight.grad for name, weight in net.named_parameters()}


@each("smoothing", [0.0, 0.1])
@each("actions", [[REUSE], [REUSE, REUSE], [PLAIN, REUSE, GRADIENT, REUSE]])
def test_a_step_follows_the_sum_of_clean_and_mixed_loss(actions, smoothing):
    population = population_of(len(actions), label_smoothing=smoothing)
    population.run_epoch(actions)  # so that the members differ, and slopes of a step are around
    ensemble = ensemble_of(population)
    states = [member["classifier"] for member in population.state_dict()["members"]]
    with epoch_of(ensemble, actions) as (batches, log):
        for start in (0, 16):
            batch = next(batches)
            shared = ensemble.shared_batches[0]
            rows = order(digits(), 0, 1)[start : start + 16]
            clean = (shared.data.train[torch.from_numpy(rows)], shared.data.targets[rows])
            states = [ensemble.state_dict(slot)["classifier"] for slot in range(len(actions))]
            mixed = [
                (batch.images[:, slot].clone(), batch.targets[:, slot].clone())
                for slot in range(len(actions))
            ]
            ensemble._step(batch, log)
            for slot, action in enumerate(actions):
                net = create_classifier(
                    "small_cnn_w8", num_classes=10, shape=(1, 8, 8), seed=0
                ).train()
                net.load_state_dict(states[slot])
                losses = [mixed[slot], clean] if action is REUSE else [mixed[slot]]
                wanted = slopes_of(net, *losses)
                parts = ensemble._stack.parts(slot)
                for name, slope in wanted.items():
                    weight, rows_of = parts[name]
                    assert_close(weight.grad[rows_of], slope, atol=2e-5, rtol=2e-3)


def test_the_maps_are_those_of_gradient():
    """The first batch, mixed before any step, is the same."""
    batches = []
    for action in (REUSE, GRADIENT):
        with epoch_of(ensemble_of(population_of(2)), [action, PLAIN]) as (found, _):
            batches.append(next(found))
    assert_close(batches[0].images, batches[1].images)
    assert batches[0].clean_gradients
    assert not batches[1].clean_gradients


def test_a_map_cannot_be_read_off_a_step_and_takes_its_pass_each_time():
    population = population_of(1, saliency=SaliencySettings(source="step"))
    passes = [population.run_epoch([REUSE])[0].backward_passes for _ in range(2)]
    assert passes == [2 * 60, 2 * 60]


def test_an_epoch_that_was_broken_off_leaves_nothing_for_the_next():
    population = population_of(1)
    ensemble = ensemble_of(population)
    with epoch_of(ensemble, [REUSE]) as (batches, log):
        next(batches)
        # As if it had been broken off between the look and the step.
        ensemble._loader._computer.ask(ensemble._loader._assign([REUSE], 0), slice(0, 16), log)
    with epoch_of(ensemble, [PLAIN]) as (batches, _):
        assert not next(batches).clean_gradients


def test_it_is_refused_where_nobody_takes_the_step():
    with pytest.raises(ConfigError, match="mix_batch alone cannot") as error:
        mixed(str(REUSE), torch.zeros(3, 2, 5, 7), classifier=pooled())
    assert "'gradient'" in error.value.hint
