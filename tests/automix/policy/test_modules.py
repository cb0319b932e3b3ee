"""A mixer as a module: its loss is that of a loop by hand, wrapped, in two processes, resumed; its
transform stands where torchvision's own CutMix would."""

from __future__ import annotations

import copy
import io
import logging
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, distributed, multiprocessing
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close
from torchvision import tv_tensors
from torchvision.transforms import v2

from automix.core.errors import ConfigError
from automix.core.seeding import generator
from automix.mixes import MIXES
from automix.mixing.actions import MixAction
from automix.mixing.loss import keeps_state, loss_of
from automix.nets.create import create_classifier
from automix.policy.modules import MixedLoss, MixTransform
from automix.policy.schedule import MixSchedule
from tests.cases import each
from tests.same import assert_same
from tests.step_contract import CNN, VIT

K, SHAPE = 5, (1, 8, 8)


def batch(seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(8, *SHAPE, generator=rng), torch.arange(8) % K


def net_of(name: str = CNN, seed: int = 0) -> torch.nn.Module:
    return create_classifier(name, num_classes=K, shape=SHAPE, seed=seed)


def mixed_loss(*actions: str, net: str = CNN, **given) -> MixedLoss:
    schedule = MixSchedule([MixAction.parse(action) for action in actions])
    mixer = schedule.mixer(K, epochs=len(actions), seed=3)
    mixer.set_progress(0)
    return MixedLoss(net_of(net), mixer, **given)


def train(module: torch.nn.Module, steps: int, first: int = 0) -> Tensor:
    """Take some steps; return the weights."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for step in range(first, first + steps):
        loss, logits = module(*batch(step))
        assert logits.shape[1] == K
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return torch.cat([weight.detach().flatten() for weight in module.parameters()])


@each("action, net", [("cutmix", CNN), ("rmix+gradient", CNN), ("lumix", CNN), ("transmix", VIT)])
def test_it_is_what_a_loop_by_hand_does(action, net):
    module = mixed_loss(action, net=net)
    twin = copy.deepcopy(module.net)
    module.mixer.label_smoothing = 0.1
    found, logits = module(*batch())
    images, labels = batch()
    smooth = 0.9 * torch.eye(K)[labels] + 0.1 / K
    bits = (0, 0, 0, 0)  # progress 0, rank 0, no worker, its first pass
    rng = generator(3, "schedule mixer", *bits)
    wanted = loss_of(twin, images, smooth, MixAction.parse(action), num_classes=K, rng=rng).losses
    assert_close(found, wanted.mean())
    assert logits.shape == (8, K)
    found.backward()
    wanted.mean().backward()
    for mine, theirs in zip(module.net.parameters(), twin.parameters(), strict=True):
        assert_close(mine.grad, theirs.grad)


def test_in_evaluation_mode_nothing_is_mixed_smoothed_or_drawn():
    module = mixed_loss("mixup").eval()
    module.mixer.label_smoothing = 0.3
    images, labels = batch()
    loss, logits = module(images, labels[:, None])
    assert torch.equal(logits, module.net(images))
    assert_close(loss, F.cross_entropy(logits, labels))
    drawn = [one.train()(*batch())[0] for one in (module, mixed_loss("mixup"))]
    assert drawn[0] != drawn[1]  # by the smoothing only
    module.mixer.label_smoothing = 0
    assert module.mixer.state_dict()["label_smoothing"] == 0


def test_a_state_follows_each_step_of_the_optimizer_and_wants_to_know_how_many():
    (method, *_) = (m for m in MIXES if keeps_state(MixAction(m, 0.5)))
    with pytest.raises(ConfigError, match="how many steps") as error:
        mixed_loss(method)(*batch())
    assert "steps=" in error.value.hint
    module, seen = mixed_loss(method, steps=10), []
    module(*batch())
    state = module._states[method]
    state.follow = lambda weights: seen.append(weights["fc.bias"].tolist())
    train(module, 2)
    for _ in range(3):  # no step in between: gradients are accumulated
        module(*batch())
    assert len(seen) == 2
    assert seen[0] != seen[1]


@each("stop", [1, 2, 3])
def test_a_training_that_is_resumed_is_one_that_was_left_alone(stop):
    """Wherever it stops: a state sees every step, also those of other actions."""
    actions = ["automix", "none", "automix", "cutmix"]

    def trained(module: MixedLoss, first: int, last: int) -> Tensor:
        for epoch in range(first, last):
            module.mixer.set_epoch(epoch)
            weights = train(module, 2, first=2 * epoch)
        return weights

    def module() -> MixedLoss:
        return mixed_loss(*actions, steps=8)

    whole, first, second, file = module(), module(), module(), io.BytesIO()
    wanted = trained(whole, 0, 4)
    trained(first, 0, stop)
    torch.save([first.state_dict(), first.method_state_dict()], file)
    file.seek(0)
    weights, kept = torch.load(file, weights_only=True)
    assert set(weights) == {f"net.{name}" for name in second.net.state_dict()}
    second.load_state_dict(weights)
    second.load_method_state_dict(kept)
    assert torch.equal(trained(second, stop, 4), wanted)
    assert_same(second.method_state_dict(), whole.method_state_dict())


def test_wrappers_of_the_net_are_gone_around_and_that_is_said(caplog):
    module = mixed_loss("rmix+gradient")
    compiled = torch.compile(module.net, backend="eager")
    again = MixedLoss(compiled, module.mixer)
    assert again.net is module.net
    assert "wrapped in OptimizedModule" in caplog.text


def test_a_loss_that_is_compiled_is_one_that_is_not():
    plain = mixed_loss("rmix+gradient")
    compiled = torch.compile(copy.deepcopy(plain), backend="eager")
    assert torch.equal(train(compiled, 2), train(plain, 2))


# In two processes ------------------------------------------------------------------------------

EVERY = [
    *((method, CNN) for method in sorted(MIXES)),
    *((form, VIT) for form in ("transmix", "tlalign", "smmix", "lumix")),
    *((form, CNN) for form in ("snapmix", "rmix+gradient", "saliency_grafting")),
]
QUICK = ("cutmix", "manifold_mixup", "rmix+gradient", "transmix")


def train_on_a_rank(rank: int, folder: str, methods: list[tuple[str, str]]) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    logging.getLogger("automix").addHandler(logging.FileHandler(f"{folder}/{rank}.log"))
    found = {}
    for method, net in methods:
        wrapped = DistributedDataParallel(mixed_loss(method, net=net, steps=4))
        found[method, net] = train(wrapped, 2, first=10 * rank)
    train(mixed_loss("cutmix"), 2)  # wrapped in nothing
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


def check_ranks(folder: Path, methods: list[tuple[str, str]]) -> None:
    multiprocessing.spawn(train_on_a_rank, (str(folder), methods), nprocs=2)
    ours, theirs = (torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2))
    for which, weights in ours.items():
        assert torch.equal(weights, theirs[which]), which
        begun = torch.cat([w.detach().flatten() for w in net_of(which[1]).parameters()])
        assert not torch.equal(weights, begun), which
    assert len(ours) == len(methods)
    (line,) = (folder / "0.log").read_text().splitlines()
    assert "DistributedDataParallel(MixedLoss(net, mixer))" in line


def playable(method: str, net: str) -> bool:
    """Whether these images and this net are what the method is for."""
    try:
        train(mixed_loss(method, net=net, steps=4), 1)
    except ConfigError:
        return False
    return method != "none"


def test_two_processes_end_with_equal_weights_and_say_what_would_not(tmp_path):
    check_ranks(tmp_path, [(method, net) for method, net in EVERY if method in QUICK])


@pytest.mark.slow
def test_two_processes_end_with_equal_weights_under_every_method(tmp_path):
    found = [(method, net) for method, net in EVERY if playable(method, net)]
    assert {*MIXES} - {method for method, _ in found} == {"none", "pointcutmix"}
    check_ranks(tmp_path, found)


# As a transform ------------------------------------------------------------------------------

PHOTOS, CLASSES = torch.rand(4, 3, 8, 8), torch.arange(4)


def transform(**given) -> MixTransform:
    return MixTransform(MixSchedule([MixAction("mixup", 0.5)]).mixer(4, seed=1), **given)


def test_it_mixes_as_its_mixer_wherever_torchvisions_own_finds_images_and_labels():
    wanted = MixSchedule([MixAction("mixup", 0.5)]).mixer(4, seed=1)(PHOTOS, CLASSES)
    noted = {"image": PHOTOS, "label": CLASSES, "name": "x"}
    for found in (
        transform()(PHOTOS, CLASSES),
        transform()([PHOTOS, CLASSES]),
        v2.Compose([v2.Identity(), transform()])(PHOTOS, CLASSES),
        torch.nn.Sequential(torch.nn.Identity(), transform())((PHOTOS, CLASSES)),
        tuple(transform()(noted).values())[:2],
        tuple(transform()({"i": PHOTOS, "labels": CLASSES, "label_names": "x"}).values())[:2],
        (lambda pair: (pair[0], pair[1]["labels"]))(transform()([PHOTOS, {"labels": CLASSES}])),
        transform(labels_getter=lambda given: given["y"][0])(
            {"x": PHOTOS, "y": [CLASSES]}
        ).values(),
    ):
        images, labels = found
        assert torch.equal(images, wanted[0])
        assert torch.equal(labels[0] if isinstance(labels, list) else labels, wanted[1])
    assert transform()(noted)["name"] == "x"
    kept = v2.CutMix(num_classes=4)(tv_tensors.Image(PHOTOS), CLASSES)[0]
    assert type(transform()(tv_tensors.Image(PHOTOS), CLASSES)[0]) is type(kept)


def test_in_evaluation_mode_batches_pass_as_they_are():
    passed = transform().eval()(PHOTOS, CLASSES)
    assert passed[0] is PHOTOS
    assert passed[1] is CLASSES


def test_a_batch_without_images_or_labels_is_refused():
    for given in (PHOTOS, (PHOTOS,), {"x": PHOTOS}, (CLASSES, CLASSES), (PHOTOS, CLASSES, PHOTOS)):
        with pytest.raises(ConfigError) as error:
            transform()(given)
        assert "labels_getter" in error.value.hint, given
    with pytest.raises(ConfigError, match="labels_getter is 'y'"):
        transform(labels_getter="y")
