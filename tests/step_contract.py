"""What every training step of a method's own must keep, as functions that fail with AssertionError.

They find the methods that state ``step``, and the nets to try them on by what they require: the
small convolutional net, and a transformer of two blocks. What a method does beyond this is tested
in ``tests/automix/mixes/test_<name>.py``. ``tests/contract.py`` does the same for masks.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn as nn
from timm.models import register_model
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.testing import assert_close

from automix.core.seeding import generator
from automix.masks.method_steps import MethodState, Step, StepLoss, soft_losses
from automix.mixes import MIXES
from automix.mixing.actions import OFF, MixAction
from automix.mixing.loss import drawn_step, keeps_state, new_state, step_loss
from automix.nets.create import create_classifier
from automix.nets.stacking import GroupedStack, stack
from automix.training.requirements import ABILITIES
from tests.same import assert_same

CLASSES, PATCH = 5, 2

CNN, VIT = "small_cnn_w8", "tiny_vit_for_tests"


@register_model
def tiny_vit_for_tests(
    pretrained: bool = False,
    num_classes: int = CLASSES,
    in_chans: int = 1,
    img_size: int | tuple[int, int] = 8,
    **_: Any,
) -> VisionTransformer:
    """Two blocks of two heads, with a class token and without dropout."""
    return VisionTransformer(
        img_size=img_size,
        patch_size=PATCH,
        in_chans=in_chans,
        num_classes=num_classes,
        embed_dim=16,
        depth=2,
        num_heads=2,
    )


@dataclass(frozen=True, kw_only=True)
class Case:
    """One batch for one net."""

    method: str
    model: str = CNN
    b: int = 6
    channels: int = 1
    size: tuple[int, int] = (8, 8)
    ratio: float = 0.5
    soft: bool = False
    guided: bool = False
    seed: int = 0

    def __str__(self) -> str:
        return f"{self.method}{'-guided' * self.guided}-{self.model}"

    @property
    def action(self) -> MixAction:
        """Guided by any provider's name: the maps themselves are handed in."""
        return MixAction(self.method, self.ratio, "spectral" if self.guided else OFF)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(c, h, w) of the images."""
        return (self.channels, *self.size)


def cases() -> list[Case]:
    """Return each method with each net that has what it requires, guided too if it can be."""
    found = []
    for entry in MIXES.entries():
        if not entry.info.step:
            continue
        required = entry.info.required(guided=False)
        models = [model for model in (CNN, VIT) if plays(model, required)]
        assert models, f"{entry.name} requires what neither net has: {required}"
        forms = (False, True) if entry.info.guided else (False,)
        found += [Case(method=entry.name, model=m, guided=g) for m in models for g in forms]
    return found


def plays(model: str, abilities: tuple[str, ...]) -> bool:
    net = create_classifier(model, num_classes=CLASSES, shape=(1, 8, 8), seed=0)
    return all(ABILITIES[ability](net) for ability in abilities)


VARIETY: dict[str, dict[str, Any]] = {
    "alone": {"b": 1},
    "two": {"b": 2},
    "odd": {"b": 7},
    "colours": {"channels": 3},
    "wide": {"size": (8, 12)},
    "tall": {"size": (16, 8)},
    "soft": {"soft": True},
    "little": {"ratio": 0.1},
    "another draw": {"seed": 1},
}
"""What a method must take, one change at a time."""


def net_of(case: Case, seed: int = 0) -> nn.Module:
    """Return a classifier in training mode, whose statistics are not those of a fresh one."""
    net = create_classifier(case.model, num_classes=CLASSES, shape=case.shape, seed=seed)
    net.train()
    with torch.no_grad():
        net(images_of(case, "before"))
    return net


def images_of(case: Case, *path: str) -> Tensor:
    rng = generator(case.seed, "images", *path)
    return torch.from_numpy(rng.normal(size=(case.b, *case.shape)).astype("float32"))


def targets_of(case: Case) -> Tensor:
    own = torch.eye(CLASSES)[torch.arange(case.b) % CLASSES]
    return 0.75 * own + 0.25 * own.roll(1, 1) if case.soft else own


def step_of(case: Case, state: MethodState | None = None) -> Step:
    """Draw a batch, from the same seed whoever asks."""
    maps = None
    if case.guided:
        raw = generator(case.seed, "maps").random((case.b, *case.size), dtype="float32")
        maps = torch.from_numpy(raw / raw.sum((1, 2), keepdims=True))
    rng = generator(case.seed, "mix")
    step = drawn_step(images_of(case), targets_of(case), case.action, rng, maps=maps)
    return replace(step, state=state)


def state_of(case: Case, net: nn.Module, seed: int = 0) -> MethodState | None:
    """Return what the method keeps, if it keeps anything."""
    if not keeps_state(case.action):
        return None
    return new_state(
        copy.deepcopy(net), case.method, classes=CLASSES, shape=case.shape, steps=20, seed=seed
    )


def taken(case: Case, net: nn.Module | None = None, step: Step | None = None) -> StepLoss:
    net = net or net_of(case)
    return step_loss(net, step or step_of(case, state_of(case, net)), case.action)


def weights_of(net: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in net.named_parameters()}


# What comes out ----------------------------------------------------------------------------------


def a_loss_and_a_share_for_each_image(case: Case) -> None:
    told = taken(case)
    check_form(told, case.b)


def check_form(told: StepLoss, b: int) -> None:
    for values in (told.losses, told.own_share):
        assert values.shape == (b,), f"shape {tuple(values.shape)}, wanted {(b,)}"
        assert values.dtype == torch.float32, f"{values.dtype}, wanted float32"
        assert bool(values.isfinite().all()), "not finite"
    assert bool(((told.own_share >= 0) & (told.own_share <= 1)).all()), "share outside [0, 1]"
    assert told.losses.requires_grad, "the losses have no graph"
    assert not told.own_share.requires_grad, "the share has a graph"
    assert len(told.passes) == 2, "passes are forward and backward"
    assert all(isinstance(n, int) and n >= 0 for n in told.passes), f"passes {told.passes}"


def slopes_reach_every_weight_that_a_plain_step_reaches(case: Case) -> None:
    net, plain = net_of(case), net_of(case)
    soft_losses(plain(images_of(case)), targets_of(case)).mean().backward()
    told = taken(case, net)
    left = [name for name, p in net.named_parameters() if p.grad is not None]
    assert not left, f"the call leaves slopes at {left}"
    told.losses.mean().backward()
    for (name, own), reached in zip(net.named_parameters(), plain.parameters(), strict=True):
        if reached.grad is not None and bool(reached.grad.abs().sum() > 0):
            assert own.grad is not None, f"no slope reaches {name}"
            assert bool(own.grad.isfinite().all()), f"slopes at {name} are not finite"
            assert bool(own.grad.abs().sum() > 0), f"slopes at {name} are zero"


def losses_are_float32_under_autocast(case: Case) -> None:
    net = net_of(case)
    with torch.autocast("cpu", torch.bfloat16):
        told = taken(case, net)
    check_form(told, case.b)
    told.losses.mean().backward()
    slopes = [p.grad for p in net.parameters() if p.grad is not None]
    assert slopes, "no slope reaches any weight"
    assert all(bool(slope.isfinite().all()) for slope in slopes), "slopes are not finite"


# What it depends on, and what it leaves alone ----------------------------------------------------


def equal_draws_give_equal_steps(case: Case) -> None:
    """Whatever torch's own generator holds, which is left as it was."""
    told = []
    for seed in (1, 2):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            before = torch.get_rng_state()
            told.append(taken(case))
            untouched = torch.equal(before, torch.get_rng_state())
    first, again = told
    assert torch.equal(first.losses, again.losses), "losses differ between equal draws"
    assert torch.equal(first.own_share, again.own_share), "shares differ between equal draws"
    assert first.passes == again.passes, "passes differ between equal draws"
    assert untouched, "the global generator was used"


def nothing_that_is_given_is_modified(case: Case) -> None:
    net = net_of(case)
    state = state_of(case, net)
    step, fresh, before = step_of(case, state), step_of(case), weights_of(net)
    taken(case, net, step).losses.mean().backward()
    if state is not None:
        state.follow({**net.state_dict()})
    assert torch.equal(step.images, fresh.images), "the images were written to"
    assert torch.equal(step.targets, fresh.targets), "the targets were written to"
    assert (step.share == fresh.share).all(), "the shares were written to"
    assert not step.images.requires_grad, "the images were made part of a graph"
    if step.maps is not None and fresh.maps is not None:
        assert torch.equal(step.maps, fresh.maps), "the maps were written to"
    for name, value in net.named_parameters():
        assert torch.equal(value, before[name]), f"{name} was written to"
        assert value.requires_grad, f"{name} was frozen"
    assert all(module.training for module in net.modules()), "the mode was changed"
    hooks = [m for m in net.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooks, "hooks were left behind"


def running_statistics_see_what_is_trained_on(case: Case) -> None:
    """No oftener than in the passes that the losses go back through, of which one may be of all.

    A pass that only looks leaves no trace.
    """
    net = net_of(case)
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    before = [int(norm.num_batches_tracked) for norm in norms]
    with counted(net, case) as made:
        told = taken(case, net)
        made.first_back = 0.0
        told.losses.mean().backward()
    times = {int(norm.num_batches_tracked) - was for norm, was in zip(norms, before, strict=True)}
    trained = round(made.first_back)
    assert times <= {*range(1, trained + 1)}, (
        f"running statistics moved {times} times in {trained} passes that train"
    )


def no_share_is_a_plain_step(case: Case) -> None:
    net, plain = net_of(case), net_of(case)
    state = state_of(case, net)
    step = step_of(case, state)
    step.share[:] = 0
    told = taken(case, net, step)
    wanted = soft_losses(plain(step.images), step.targets)
    assert torch.equal(told.losses, wanted)
    assert torch.equal(told.own_share, torch.ones(case.b))
    assert told.passes == (0, 0)


def company_changes_nothing(case: Case) -> None:
    """In the middle of a stack a member's step is what it is alone, and touches nobody else."""
    nets = [net_of(case, seed) for seed in range(3)]
    among, alone = stack(nets), copy.deepcopy(nets[1])
    states = [state_of(case, alone) for _ in range(2)]
    wanted = taken(case, alone, step_of(case, states[0]))
    told: list[StepLoss] = []

    def question(net: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
        told.append(taken(case, net, step_of(case, states[1])))
        return (told[0].losses[:, None],)

    among.module().train()
    (losses,) = among.ask([1], question, step_of(case).images[:, None], trains=True)
    assert_close(losses[:, 0, 0], wanted.losses, rtol=1e-4, atol=1e-5)
    assert_close(told[0].own_share, wanted.own_share, rtol=1e-4, atol=1e-5)
    assert told[0].passes == wanted.passes
    losses.mean().backward()
    wanted.losses.mean().backward()
    own = dict(alone.named_parameters())
    for member in (0, 2):
        for name, (value, rows) in among.parts(member).items():
            was = nets[member].state_dict()[name]
            if value.dim():
                assert torch.equal(value.detach()[rows], was), f"{name} of another has moved"
    for name, (value, rows) in among.parts(1).items():
        if name in own and own[name].grad is not None:
            assert value.grad is not None, f"no slope reaches {name}"
            assert_close(value.grad[rows], own[name].grad, rtol=1e-3, atol=1e-5)


# States ------------------------------------------------------------------------------------------


def a_state_goes_on_from_its_copy(case: Case) -> None:
    """Two steps; what is copied after the first makes the second again, bit for bit."""
    net = net_of(case)
    state, other = state_of(case, net), state_of(case, net_of(case, 1), seed=1)
    assert state is not None
    assert other is not None
    one_step(case, net, state)
    kept = state.state_dict()
    frozen = copy.deepcopy(kept)
    check_plain(kept, "state")
    then = copy.deepcopy(net)
    wanted = one_step(case, net, state)
    assert_same(kept, frozen, "what state_dict() returned has moved with the training")
    other.load_state_dict(kept)
    assert_same(other.state_dict(), frozen, "what was restored is not what was kept")
    got = one_step(case, then, other)
    assert torch.equal(got, wanted), "the step after restoring is another"
    assert_same(
        other.state_dict(), state.state_dict(), "the state after restoring goes another way"
    )
    assert_same(kept, frozen, "load_state_dict() keeps what it is given")


def one_step(case: Case, net: nn.Module, state: MethodState) -> Tensor:
    told = taken(case, net, step_of(case, state))
    net.zero_grad()
    told.losses.mean().backward()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    state.follow(dict(net.state_dict()))
    return told.losses.detach()


def check_plain(value: Any, where: str) -> None:
    """Refuse what a snapshot does not hold."""
    if isinstance(value, dict):
        for key, item in value.items():
            plain = isinstance(key, str | int) and not isinstance(key, bool)
            assert plain, f"{where} has the key {key!r}"
            check_plain(item, f"{where}.{key}")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            check_plain(item, f"{where}[{number}]")
    elif isinstance(value, Tensor):
        assert not value.requires_grad, f"{where} has a graph"
    else:
        plain = value is None or isinstance(value, bool | int | float | str)
        assert plain, f"{where} is a {type(value).__name__}"


# Cost --------------------------------------------------------------------------------------------


@dataclass
class Passes:
    """Batches that went through the first and the last layer, and slopes that came back."""

    first: float = 0.0
    last: float = 0.0
    first_back: float = 0.0
    last_back: float = 0.0


def passes_are_those_that_were_made(case: Case) -> None:
    """Count at the first and the last layer of the net, and of every copy of it.

    Part of a pass may count as one or as none; of the net's head alone it is none.
    """
    net = net_of(case)
    step = step_of(case, state_of(case, net))
    with counted(net, case) as made:
        told = taken(case, net, step)
        told.losses.mean().backward()
    (forward, backward), most = told.passes, 1e-6
    low, high = sorted((made.first, made.last))
    assert low - most <= 1 + forward <= math.ceil(high - most), (
        f"{1 + forward} forward passes are told, {low:g} to {high:g} were made"
    )
    low, high = sorted((made.first_back, made.last_back))
    assert low - most <= 1 + backward <= math.ceil(high - most), (
        f"{1 + backward} backward passes are told, {low:g} to {high:g} were made"
    )


@contextmanager
def counted(net: nn.Module, case: Case) -> Iterator[Passes]:
    layers = [m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    first, last = ((type(m), m.weight.shape) for m in (layers[0], layers[-1]))
    made, pixels = Passes(), case.b * case.size[0] * case.size[1]

    def seen(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        kind = type(module), getattr(module, "weight", torch.empty(0)).shape
        if kind == first:
            share = inputs[0][:, 0].numel() / pixels
            made.first += share
            count_back(output, "first_back", share)
        elif kind == last:
            share = len(inputs[0]) / case.b
            made.last += share
            count_back(output, "last_back", share)

    def count_back(output: Tensor, name: str, share: float) -> None:
        if output.requires_grad:
            output.register_hook(lambda gradients: setattr(made, name, getattr(made, name) + share))

    handle = nn.modules.module.register_module_forward_hook(seen)
    try:
        yield made
    finally:
        handle.remove()


LAWS: tuple[Callable[[Case], None], ...] = (
    a_loss_and_a_share_for_each_image,
    slopes_reach_every_weight_that_a_plain_step_reaches,
    losses_are_float32_under_autocast,
    equal_draws_give_equal_steps,
    nothing_that_is_given_is_modified,
    running_statistics_see_what_is_trained_on,
    no_share_is_a_plain_step,
    company_changes_nothing,
    passes_are_those_that_were_made,
)


def grouped(case: Case) -> bool:
    """Whether nets of this case stand side by side in one."""
    return isinstance(stack([net_of(case)] * 2), GroupedStack)
