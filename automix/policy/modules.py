"""A mixer as a module: the loss of a net under it, and a transform of batches."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn as nn
from torch import Tensor, distributed
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.utils._pytree import tree_flatten, tree_unflatten
from torchvision import tv_tensors

from automix.core.errors import ConfigError
from automix.masks.method_steps import MethodState, soft_losses
from automix.mixing.actions import MixAction
from automix.mixing.batch import Mixed, mix_batch
from automix.mixing.checks import check_images, checked_labels
from automix.mixing.loss import answered, keeps_state, loss_of, makes_steps, new_state
from automix.mixing.modes import uncompiled
from automix.mixing.targets import as_targets
from automix.policy.mixer import BatchMixer

log = logging.getLogger("automix")

LabelsGetter = Callable[[Any], Tensor]


class MixedLoss(nn.Module):
    """Mixes a batch, asks the net, and returns the loss, for every action.

    That is, also where the net is asked about the images before they are mixed, where its logits or
    its attention make the targets, and for methods with training steps of their own. Wrap *it*, so
    that whatever happens to the net happens inside::

        mixed_loss = DistributedDataParallel(MixedLoss(net, mixer))
        loss, logits = mixed_loss(images, labels)

    In evaluation mode nothing is mixed or smoothed. ``state_dict`` has the weights of the net under
    ``net.``; what methods keep from step to step is in ``method_state_dict``.

    Args:
        net: Images (b, c, h, w) to logits (b, k). If it is wrapped already, what it wraps is used.
        mixer: Of a schedule or a policy.
        steps: Optimizer steps of the whole training, for methods that keep a state.
    """

    def __init__(self, net: nn.Module, mixer: BatchMixer, steps: int | None = None) -> None:
        super().__init__()
        self.net, self.mixer, self._steps = _unwrapped(net), mixer, steps
        self._states: dict[str, MethodState] = {}
        self._saved: Mapping[str, Any] = {}  # of states that are made when images are seen
        self._seen, self._due, self._told = 0, False, False

    def forward(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean cross-entropy of a batch, and logits.

        Args:
            images: (b, c, h, w) float, as the net takes them; not modified.
            labels: (b,) or (b, 1) int classes, or (b, k) probabilities.

        Returns:
            A number with a graph, and the logits (b, k) of the mixed images. A method with steps
            of its own may ask the net several times, or only parts of it: then these are the last
            that the net gave, or none, (0, k).

        Raises:
            ConfigError: As ``loss_of``; or if a method keeps a state, and nobody told ``steps``.
        """
        if not self.training:
            logits = self.net(images)
            labels = checked_labels(labels, len(images), self.mixer.num_classes)
            targets = as_targets(labels, self.mixer.num_classes)
            return soft_losses(logits, targets).mean(), logits
        begun = self._begin(images, labels)
        if not isinstance(begun, Mixed):
            return begun
        logits, targets = answered(self.net, begun)
        return soft_losses(logits, targets).mean(), logits

    @uncompiled
    def _begin(self, images: Tensor, labels: Tensor) -> Mixed | tuple[Tensor, Tensor]:
        """Mix a batch, or let a method make its own step."""
        self._tell_if_alone()
        self._restore(images)
        self._follow()
        action, labels, rng = self.mixer.batch(labels, len(images))
        given: dict[str, Any] = {"num_classes": self.mixer.num_classes, "rng": rng}
        given["settings"] = self.mixer.settings
        if not makes_steps(action):
            return mix_batch(images, labels, action, classifier=self.net, **given)
        check_images(images)
        answers = [torch.empty(0, self.mixer.num_classes, device=images.device)]
        hook = self.net.register_forward_hook(lambda _, __, logits: answers.append(logits.detach()))
        try:
            state = self._state_of(action, images)
            loss = loss_of(self.net, images, labels, action, state=state, **given)
        finally:
            hook.remove()
        return loss.losses.mean(), answers[-1]

    def _state_of(self, action: MixAction, images: Tensor) -> MethodState | None:
        """Return what the action's method keeps, if it keeps anything."""
        method = action.method
        if keeps_state(action) and method not in self._states:
            self._states[method] = self._new_state(method, images)
            self._seen = self._written()
        return self._states.get(method)

    def _new_state(self, method: str, images: Tensor) -> MethodState:
        """Make what a method keeps; it begins where the net is now."""
        if self._steps is None:
            raise ConfigError(
                f"{method} keeps something from step to step, and is not told how many steps "
                "there are",
                "make it MixedLoss(net, mixer, steps=epochs * len(loader))",
            )
        return new_state(
            copy.deepcopy(self.net),
            method,
            classes=self.mixer.num_classes,
            shape=(images.shape[1], images.shape[2], images.shape[3]),
            steps=self._steps,
            seed=self.mixer.seed,
            settings=self.mixer.settings,
        )

    def _restore(self, images: Tensor) -> None:
        """Make the states that were saved, now that the shape of the images is known."""
        for method, kept in self._saved.items():
            self._states[method] = self._new_state(method, images)
            self._states[method].load_state_dict(kept)
            self._seen = -1 if self._due else self._written()
        self._saved = {}

    def _follow(self) -> None:
        """Let states see the weights, if an optimizer has changed them."""
        if self._states and self._written() != self._seen:
            weights = self.net.state_dict()
            for state in self._states.values():
                state.follow(weights)
            self._seen = self._written()

    def _written(self) -> int:
        """Return a number that grows whenever weights are written."""
        return sum(weight._version for weight in self.net.parameters())

    def _tell_if_alone(self) -> None:
        """Say once that nobody averages the gradients of the ranks."""
        if self._told or not (distributed.is_available() and distributed.is_initialized()):
            return
        inside = getattr(DistributedDataParallel, "_active_ddp_module", None) is not None
        if not inside and distributed.get_world_size() > 1:
            log.warning(
                "MixedLoss runs in a group of processes and is not wrapped: unless you average "
                "gradients yourself, ranks drift apart. Wrap it, not the net: "
                "DistributedDataParallel(MixedLoss(net, mixer))"
            )
        self._told = True

    def method_state_dict(self) -> dict[str, Any]:
        """Return what methods keep from step to step, plain data and tensors.

        It is no part of ``state_dict``, which averages and shards of weights are made of.
        """
        kept = {name: state.state_dict() for name, state in self._states.items()}
        due = self._due if self._saved else self._seen != self._written()
        return {"methods": {**self._saved, **kept}, "due": due}

    def load_method_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what ``method_state_dict`` returned; load the weights, too."""
        self._saved, self._states, self._due = state["methods"], {}, state["due"]


def _unwrapped(net: nn.Module) -> nn.Module:
    """Return the net inside its wrappers, which would hide what methods look at."""
    bare = net
    while True:
        inner = getattr(bare, "_orig_mod", None)  # of torch.compile
        if isinstance(bare, DataParallel | DistributedDataParallel):
            inner = bare.module
        if inner is None:
            break
        bare = inner
    if bare is not net:
        log.warning(
            "the net is wrapped in %s, which MixedLoss goes around: wrap MixedLoss in its place",
            type(net).__name__,
        )
    return bare


class MixTransform(nn.Module):
    """Mixes the batches that pass through it, as torchvision's own ``v2.CutMix`` does.

    In evaluation mode they pass as they are.

    Args:
        mixer: Of a schedule or a policy.
        labels_getter: Finds the labels in what is passed; ``"default"`` takes the second of a pair,
            or what a mapping has under the one key with ``label`` in it.
    """

    def __init__(self, mixer: BatchMixer, labels_getter: LabelsGetter | str = "default") -> None:
        super().__init__()
        if not callable(labels_getter) and labels_getter != "default":
            raise ConfigError(f"labels_getter is {labels_getter!r}, wanted a function or 'default'")
        self.mixer = mixer
        self._labels_of = labels_getter if callable(labels_getter) else default_labels

    def forward(self, *inputs: Any) -> Any:
        """Mix a batch.

        Args:
            inputs: Images (b, c, h, w) and labels, or one structure that holds both.

        Returns:
            The same structure with mixed images, and targets (b, k) for labels.

        Raises:
            ConfigError: If there are no labels or no images in it; or as the mixer does.
        """
        given = inputs if len(inputs) > 1 else inputs[0]
        if not self.training:
            return given
        labels = self._labels_of(given)
        leaves, structure = tree_flatten(given)
        images = [x for x in leaves if isinstance(x, Tensor) and x.dim() == 4 and x is not labels]
        if len(images) != 1 or all(leaf is not labels for leaf in leaves):
            raise ConfigError(
                f"the batch has {len(images)} tensors (b, c, h, w) beside its labels, wanted one, "
                "and the labels themselves",
                "say where labels are: MixTransform(mixer, labels_getter=lambda batch: batch[...])",
            )
        plain = images[0].as_subclass(Tensor)
        mixed, targets = self.mixer(plain, labels)
        if isinstance(images[0], tv_tensors.TVTensor):
            mixed = tv_tensors.wrap(mixed, like=images[0])
        new = {id(images[0]): mixed, id(labels): targets}
        return tree_unflatten([new.get(id(leaf), leaf) for leaf in leaves], structure)


def default_labels(batch: Any) -> Tensor:
    """Return the second of a pair, or what a mapping has as ``labels``, else under a key like it.

    Raises:
        ConfigError: If there is none, or several that could be meant.
    """
    found = [batch[1]] if isinstance(batch, tuple | list) and len(batch) > 1 else []
    mappings = [one for one in [batch, *found] if isinstance(one, Mapping)]
    if mappings:
        (given, *_) = mappings
        names = ["labels"] if "labels" in given else [k for k in given if "label" in str(k).lower()]
        found = [given[name] for name in names]
    if len(found) == 1 and isinstance(found[0], Tensor):
        return found[0]
    raise ConfigError(
        f"{len(found)} tensors of labels were found in a batch that is a {type(batch).__name__}, "
        "wanted one",
        "say where they are: MixTransform(mixer, labels_getter=lambda batch: batch[...])",
    )
