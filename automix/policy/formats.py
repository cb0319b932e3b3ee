"""A policy in files of other runtimes: ``policy.pt2`` of torch.export, and ``policy.onnx``.

Both take observations (n, d), float32, as ``MixPolicy.predict`` does: the scaling that an agent
was learned with is in the weights. They return

- ``actions``: what ``predict`` returns for n rows, of the likeliest choice; -1, or nan where
  actions are fractions, for a row that ``predict`` refuses: a file cannot raise an error;
- ``scores`` (n, outputs): what ``logits`` returns;
- of a recurrent policy ``next_hidden`` and ``next_cell``, (1, n, width): its inputs ``hidden`` and
  ``cell`` at the observations that follow, zeros at the first of an episode.

Each carries the text of ``policy.json``, which names all of it.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from itertools import chain

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from automix.core.extras import require
from automix.policy.policy import MixPolicy
from automix.policy.policy_net import TOLERANCE, bounds_of


class TorchPolicy(nn.Module):
    """A policy in torch, with the same weights.

    Args:
        policy: The policy.
    """

    def __init__(self, policy: MixPolicy) -> None:
        super().__init__()
        form, net = policy.form, policy.net
        low, high = bounds_of(form.observations, form.observation_sizes)
        memory = [net.memory.seen, net.memory.kept, net.memory.bias] if net.memory else []
        self.inputs, self.sizes, self.space = len(low), policy.sizes, form.space
        self.width = net.memory.size if net.memory else 0
        self.activation, self.output = net.activation, net.output
        limits = [low - TOLERANCE, high + TOLERANCE]
        for number, array in enumerate([*limits, *memory, *chain(*net.layers)]):
            self.register_buffer(f"array_{number}", torch.tensor(array, dtype=torch.float32))

    def forward(
        self, observations: Tensor, hidden: Tensor | None = None, cell: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Return actions, scores, and the next state of a recurrent policy."""
        low, high, *arrays = self.buffers()
        fits = (observations >= low).logical_and(observations <= high).all(1)
        numbers = observations
        state: tuple[Tensor, ...] = ()
        if hidden is not None and cell is not None:
            seen, kept, bias, *arrays = arrays
            gates = F.linear(numbers, seen, bias) + F.linear(hidden[0], kept)
            enter, forget, new, leave = gates.chunk(4, 1)
            memory = forget.sigmoid() * cell[0] + enter.sigmoid() * new.tanh()
            numbers = leave.sigmoid() * memory.tanh()
            state = numbers[None], memory[None]
        for layer in range(0, len(arrays), 2):
            numbers = getattr(torch, self.activation)(numbers) if layer else numbers
            numbers = F.linear(numbers, arrays[layer], arrays[layer + 1])
        if self.output in ("clip", "tanh"):
            numbers = numbers.tanh() if self.output == "tanh" else numbers.clamp(-1, 1)
        return self._actions(numbers, fits), numbers, *state

    def _actions(self, scores: Tensor, fits: Tensor) -> Tensor:
        if self.space == "box":
            return scores.masked_fill(~fits[:, None], torch.nan)
        picked = torch.stack([part.argmax(1) for part in scores.split(self.sizes, 1)], 1)
        picked = picked.masked_fill(~fits[:, None], -1)
        return picked[:, 0] if self.space == "flat" else picked

    def exported(self) -> torch.export.ExportedProgram:
        """Return its graph, for any number of rows."""
        rows, state = torch.export.Dim("rows"), ("hidden", "cell") * bool(self.width)
        program = torch.export.export(
            self,
            (torch.zeros(2, self.inputs), *(torch.zeros(1, 2, self.width) for _ in state)),
            dynamic_shapes={"observations": {0: rows}} | {name: {1: rows} for name in state},
        )
        program.example_inputs = None  # they would be pickled
        return program


def _pt2(policy: MixPolicy, about: str) -> bytes:
    file = io.BytesIO()
    torch.export.save(TorchPolicy(policy).exported(), file, extra_files={"policy.json": about})
    return file.getvalue()


def _onnx(policy: MixPolicy, about: str) -> bytes:
    require("onnx")
    state = ["hidden", "cell"] * policy.recurrent
    model = torch.onnx.export(
        TorchPolicy(policy).exported(),
        dynamo=True,
        verbose=False,
        input_names=["observations", *state],
        output_names=["actions", "scores", *(f"next_{name}" for name in state)],
    )
    assert model is not None
    proto = model.model_proto
    proto.metadata_props.add(key="policy.json", value=about)
    return proto.SerializeToString()


FORMATS: Mapping[str, Callable[[MixPolicy, str], bytes]] = {"pt2": _pt2, "onnx": _onnx}
"""By the ending of their file, what makes its bytes from a policy and its ``policy.json``."""
