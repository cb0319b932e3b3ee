"""Under torch's modes a mix is what it is without them; an empty batch is none."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from automix.core.seeding import generator
from automix.masks.method_steps import StepLoss
from automix.mixes import MIXES
from automix.mixing.actions import MixAction
from automix.mixing.batch import Mixed, MixSettings, mix_batch
from automix.mixing.loss import loss_of
from automix.nets.create import create_classifier
from automix.policy.schedule import MixSchedule
from automix.saliency import SALIENCY, only_in_training
from tests.automix.saliency.planted import models_for
from tests.cases import each
from tests.contract import FORMS, Case, noise_images

K = 6
CLASSES = torch.arange(K)
SOFT = torch.rand(K, K, generator=torch.Generator().manual_seed(0)).softmax(1)
HALVES = (torch.bfloat16, torch.float16)


def images_of(form, **case) -> Tensor:
    return noise_images(Case(form=form, b=K, **case))


MAPS = SALIENCY["spectral"](images_of(FORMS[0]), SOFT, torch.nn.Identity())


def mixed_by(form, labels: Tensor, images: Tensor | None = None, **given) -> Mixed:
    """Mix by any method; maps are handed in."""
    images = images_of(form) if images is None else images
    saliency = MAPS if form.guided else None
    action = Case(form=form).action
    given = {"num_classes": K, "rng": generator(1), "saliency": saliency} | given
    return mix_batch(images, labels, action, **given)


def assert_equal(got: Mixed, wanted: Mixed) -> None:
    assert got.images.dtype == wanted.images.dtype
    assert torch.equal(got.images, wanted.images)
    assert torch.equal(got.targets, wanted.targets)
    assert torch.equal(got.lam, wanted.lam)
    assert torch.equal(got.own_share, wanted.own_share)


@each("form", FORMS)
@each("half", HALVES)
def test_a_mix_steps_out_of_autocast(form, half):
    for labels in (CLASSES, SOFT):
        wanted = mixed_by(form, labels)
        with torch.autocast("cpu", half):
            got = mixed_by(form, labels)
            assert torch.is_autocast_enabled("cpu")
        assert_equal(got, wanted)


@each("rule", ["requested", "saliency_mass", "cam_mass", "perturbed", "visibility"])
def test_a_label_rule_steps_out_of_autocast(rule):
    form = next(form for form in FORMS if str(form) == "cutmix-guided")
    settings = MixSettings(label_rule=rule)
    wanted = mixed_by(form, SOFT, settings=settings)
    with torch.autocast("cpu", torch.bfloat16):
        assert_equal(mixed_by(form, SOFT, settings=settings), wanted)


ALONE = [entry.name for entry in SALIENCY.entries() if not only_in_training(entry.name)]


@each("provider", ALONE)
@each("method", ["rmix", "puzzlemix", "mixup"])
def test_maps_are_computed_in_any_mode(provider, method):
    model = models_for(provider)[0]
    net = create_classifier(model, num_classes=K, shape=(3, 8, 12), seed=0).requires_grad_()
    action, images = MixAction(method, 0.5, provider), images_of(FORMS[0])
    with torch.inference_mode():
        inferred, soft = images.clone(), SOFT.clone()

    def mixed(images: Tensor, labels: Tensor) -> Mixed:
        return mix_batch(images, labels, action, num_classes=K, rng=generator(1), classifier=net)

    wanted = mixed(images, SOFT)
    with torch.inference_mode():
        assert_equal(mixed(images, SOFT), wanted)
        assert_equal(mixed(inferred, soft), wanted)
    assert_equal(mixed(inferred, soft), wanted)
    with torch.no_grad():
        assert_equal(mixed(images, SOFT), wanted)
    for half in HALVES:  # the net answers in half precision, the rest is exact
        with torch.autocast("cpu", half):
            got = mixed(images, SOFT)
        assert got.images.dtype == torch.float32
        assert got.images.isfinite().all()
        torch.testing.assert_close(got.targets.sum(1), torch.ones(K))
    assert all(p.grad is None for p in net.parameters())


@each("form", FORMS)
def test_a_mix_works_in_inference_mode(form):
    wanted = mixed_by(form, CLASSES)
    with torch.inference_mode():
        assert_equal(mixed_by(form, CLASSES), wanted)


STEPS = [entry.name for entry in MIXES.entries() if entry.info.step and not entry.info.state]


@each("dtype", [torch.float32, torch.uint8, torch.bfloat16])
@each("form", FORMS)
def test_an_empty_batch_stays_empty_and_draws_nothing(form, dtype):
    rng = generator(1)
    for labels in (CLASSES[:0], SOFT[:0], CLASSES[:0, None]):
        images = images_of(form)[:0].to(dtype)
        given = {"images": images, "rng": rng, "settings": MixSettings(mix_probability=0.5)}
        mixed = mixed_by(replace(form, guided=False), labels, **given)
        assert mixed.images.shape == (0, 3, 8, 12)
        assert mixed.images.dtype == dtype
        assert mixed.targets.shape == (0, K)
        assert mixed.lam.shape == mixed.own_share.shape == mixed.partner.shape == (0,)
        out = torch.empty_like(images)
        assert mixed_by(replace(form, guided=False), labels, out=out, **given).images is out
    assert rng.random() == generator(1).random()


def test_an_empty_batch_asks_no_classifier():
    mixer = MixSchedule([MixAction("cutmix", 0.5, "gradient")]).mixer(K)
    assert mixer(torch.rand(0, 3, 8, 8), CLASSES[:0])[1].shape == (0, K)


@each("method", [*STEPS, "cutmix", "none"])
def test_the_loss_of_an_empty_batch_is_empty(method):
    action = MixAction(method, 0.5)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, K))
    told = loss_of(
        net, torch.rand(0, 1, 8, 8), CLASSES[:0], action, num_classes=K, rng=generator(0)
    )
    assert told.losses.shape == told.own_share.shape == (0,)


@pytest.mark.filterwarnings("ignore:.*lru_cache")
def test_a_step_that_is_compiled_mixes_as_one_that_is_not():
    images, net = (
        images_of(FORMS[0]),
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(288, K)),
    )
    forms = ("mixup", "cutmix", "rmix+spectral", "fmix", "none", "comixup", "cutmix+gradient")
    for form in forms:
        schedule = MixSchedule([MixAction.parse(form)])
        compiled, plain = schedule.mixer(K), schedule.mixer(K)

        def step(images: Tensor, labels: Tensor, mixer=compiled) -> tuple[Tensor, Tensor]:
            mixed, targets = mixer(images, labels, net)
            return F.cross_entropy(net(mixed), targets), mixed

        fast = torch.compile(step, backend="eager")
        for _ in range(3):
            loss, mixed = fast(images, CLASSES)
            wanted = step(images, CLASSES, mixer=plain)
            assert torch.equal(mixed, wanted[1]), form
            torch.testing.assert_close(loss, wanted[0])
        torch.compiler.reset()


@each("method", ["cutmix", "style_consistency"])
def test_a_loss_that_is_compiled_is_the_loss(method):
    images, net = (
        images_of(FORMS[0]),
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(288, K)),
    )

    def loss(images: Tensor, rng) -> StepLoss:
        return loss_of(net, images, CLASSES, MixAction(method, 0.5), num_classes=K, rng=rng)

    fast, first, second = torch.compile(loss, backend="eager"), generator(0), generator(0)
    for _ in range(2):
        assert torch.equal(fast(images, first).losses, loss(images, second).losses)
    torch.compiler.reset()
