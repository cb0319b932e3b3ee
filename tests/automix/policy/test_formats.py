"""The policy in files of torch.export and ONNX: what they answer is what it answers."""

from __future__ import annotations

import io
import json
import zipfile
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from automix.mixing.boxed import numbers_of
from automix.policy.formats import FORMATS, TorchPolicy
from automix.policy.policy import MixPolicy, PolicyForm
from automix.policy.policy_net import Memory, PolicyNet
from tests.cases import each

ABOUT = '{"form": "as policy.json has it"}'
WIDTH = 6

CASES = [
    ("flat", "logits", "tanh", False),
    ("factored", "values", "relu", False),
    ("box", "tanh", "relu", False),
    ("flat", "logits", "tanh", True),
    ("box", "clip", "tanh", True),
]
every_form = each("space, output, activation, recurrent", CASES)


def policy(space: str, output: str, activation: str, recurrent: bool) -> MixPolicy:
    rng = np.random.default_rng(0)
    methods, ratios = ["none", "mixup", "cutmix"], [0.1, 0.5]
    form = PolicyForm(
        observations=["progress", "val_loss", "last_method", "of another version"],
        observation_sizes=[1, 1, 3, 1],
        methods=methods,
        ratios=ratios,
        saliency=["off"],
        space=space,
        choices=["none", "mixup@0.1", "mixup@0.5", "cutmix@0.1", "cutmix@0.5"],
    )

    def array(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    outputs = {"flat": 5, "factored": 3 + 2 + 1, "box": numbers_of(methods, ["off"])}[space]
    widths = [WIDTH if recurrent else 6, 8, outputs]
    layers = [(array(o, i), array(o)) for i, o in pairwise(widths)]
    memory = Memory(array(4 * WIDTH, 6), array(4 * WIDTH, WIDTH), array(4 * WIDTH))
    net = PolicyNet(
        layers=layers,
        activation=activation,
        output=output,
        memory=memory if recurrent else None,
    )
    return MixPolicy(form, net, {})


def rows(count: int, seed: int) -> np.ndarray:
    """Return observations over all of their ranges; what is not known here may be anything."""
    rng = np.random.default_rng(seed)
    return rng.uniform([0, 0, 0, 0, 0, -9], [1, 3, 1, 1, 1, 9], (count, 6)).astype(np.float32)


def in_pt2(content: bytes):
    program = torch.export.load(io.BytesIO(content)).module()

    def answer(*arrays: np.ndarray) -> list[np.ndarray]:
        return [part.numpy() for part in program(*map(torch.from_numpy, arrays))]

    return answer


def in_onnx(content: bytes):
    session = pytest.importorskip("onnxruntime").InferenceSession(content)
    names = ["observations", "hidden", "cell"]
    return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=False)))


def check_episodes(ours: MixPolicy, answer, tolerance: float) -> None:
    """Ask for three epochs of some episodes; a recurrent policy is handed its own state."""
    for count in (1, 2, 50):
        first = [np.zeros((1, count, WIDTH), np.float32)] * 2 * ours.recurrent
        state, kept = first, None
        for step in range(3):
            seen = rows(count, step)
            scores, _ = ours.net(seen, kept)
            wanted, kept = ours.predict(seen, kept)
            actions, got, *state = answer(seen, *state)
            assert actions.dtype == wanted.dtype
            assert_allclose(got, scores, atol=tolerance)
            assert_allclose(actions, wanted, atol=tolerance)
            if ours.recurrent:
                assert_allclose(state, kept, atol=tolerance)
    assert len(np.unique(np.round(actions, 3), axis=0)) > 1


def check_refusals(answer, recurrent: bool) -> None:
    """What predict refuses has no action, for the index of none is 0; its neighbours have one."""
    seen = rows(6, 0)
    seen[1, 0], seen[2, 1], seen[3, 5], seen[4, 3] = 50, np.nan, np.inf, -0.5
    actions, *_ = answer(seen, *[np.zeros((1, 6, WIDTH), np.float32)] * 2 * recurrent)
    refused = np.isnan(actions) if actions.dtype == np.float32 else actions == -1
    assert_array_equal(refused.reshape(6, -1).all(1), [False, True, True, True, True, False])
    assert_array_equal(refused.reshape(6, -1).any(1), [False, True, True, True, True, False])


@every_form
def test_what_torch_loads_is_the_policy(space, output, activation, recurrent):
    ours = policy(space, output, activation, recurrent)
    content = FORMATS["pt2"](ours, ABOUT)
    answer, state = in_pt2(content), [torch.zeros(1, 9, WIDTH)] * 2 * recurrent
    check_episodes(ours, answer, 1e-5)
    check_refusals(answer, recurrent)
    module = TorchPolicy(ours)(torch.from_numpy(rows(9, 0)), *state)
    for got, wanted in zip(answer(rows(9, 0), *(s.numpy() for s in state)), module, strict=True):
        assert_array_equal(got, wanted.numpy())
    found = {"policy.json": ""}
    torch.export.load(io.BytesIO(content), extra_files=found)
    assert found["policy.json"] == ABOUT


def test_a_pt2_file_holds_no_pickle():
    archive = zipfile.ZipFile(io.BytesIO(FORMATS["pt2"](policy(*CASES[3]), ABOUT)))
    files = {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}
    assert files["data/sample_inputs/model.pt"] == b""
    weights = [*json.loads(files["data/weights/model_weights_config.json"])["config"].values()]
    assert len(weights) == 2 + 3 + 4
    assert not any(weight["use_pickle"] for weight in weights)
    assert json.loads(files["data/constants/model_constants_config.json"])["config"] == {}


@every_form
def test_what_onnx_runs_is_the_policy(space, output, activation, recurrent):
    pytest.importorskip("onnxscript")
    onnx = pytest.importorskip("onnx")
    ours = policy(space, output, activation, recurrent)
    content = FORMATS["onnx"](ours, ABOUT)
    check_episodes(ours, in_onnx(content), 1e-5)
    check_refusals(in_onnx(content), recurrent)
    model = onnx.load_from_string(content)
    state = ["hidden", "cell"] * recurrent
    assert [one.name for one in model.graph.input] == ["observations", *state]
    outputs = ["actions", "scores", *(f"next_{name}" for name in state)]
    assert [one.name for one in model.graph.output] == outputs
    assert {one.key: one.value for one in model.metadata_props} == {"policy.json": ABOUT}
