"""The exported policy: what is saved is what is loaded, and what is damaged is refused by name."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from safetensors.numpy import load, save

from automix.core.errors import ConfigError, DataError
from automix.mixing.actions import MixAction, nearest_action
from automix.policy.policy import MixPolicy, PolicyForm, load_policy, save_policy
from automix.policy.policy_net import PolicyNet
from automix.policy.rule import Leaf, Rule
from tests.cases import each

OBSERVED = {"progress": 1, "val_loss": 1, "last_method": 3}
CHOICES = [
    "none",
    "mixup@0.1",
    "mixup@0.1+spectral",
    "mixup@0.5",
    "mixup@0.5+spectral",
    "cutmix@0.1",
    "cutmix@0.1+spectral",
    "cutmix@0.5",
    "cutmix@0.5+spectral",
]


def policy(space: str = "factored", seed: int = 0) -> MixPolicy:
    form = PolicyForm(
        observations=list(OBSERVED),
        observation_sizes=list(OBSERVED.values()),
        methods=["none", "mixup", "cutmix"],
        ratios=[0.1, 0.5],
        saliency=["off", "spectral"],
        space=space,
        choices=CHOICES,
    )
    rng = np.random.default_rng(seed)
    widths = [5, 6, 4, 9 if space == "flat" else 7]
    layers = [
        (rng.normal(size=(o, i)).astype(np.float32), rng.normal(size=o).astype(np.float32))
        for i, o in pairwise(widths)
    ]
    # Of the middle of all observations nothing is left, so that it plays many choices.
    layers[0] = layers[0][0] * 4, layers[0][0] @ np.full(5, -2, np.float32)
    return MixPolicy(form, layers, {"dataset": "digits", "seed": 3})


def observations(n: int = 50) -> np.ndarray:
    return np.random.default_rng(1).random((n, 5), dtype=np.float32)


every_space = each("space", ["factored", "flat"])


@every_space
def test_what_is_loaded_answers_as_what_was_saved_bit_for_bit(tmp_path, space):
    ours = policy(space)
    save_policy(tmp_path, ours)
    again = load_policy(tmp_path)
    assert again.form == ours.form
    assert again.about == ours.about
    assert_array_equal(again.logits(observations()), ours.logits(observations()))
    save_policy(tmp_path / "twice", again)
    for name in ("policy.json", "policy.safetensors"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "twice" / name).read_bytes()


@every_space
def test_an_action_is_the_likeliest_of_each_part(space):
    ours = policy(space)
    logits = ours.logits(observations())
    actions, state = ours.predict(observations(), state="kept")
    assert state == "kept"
    if space == "flat":
        assert_array_equal(actions, logits.argmax(1))
        wanted = [CHOICES[i] for i in actions]
    else:
        parts = [logits[:, :3].argmax(1), logits[:, 3:5].argmax(1), logits[:, 5:].argmax(1)]
        assert_array_equal(actions, np.stack(parts, 1))
        assert len({tuple(a) for a in actions}) > 4
    for row, action in zip(observations(), actions, strict=True):
        one, _ = ours.predict(row)
        assert_array_equal(one, action)
    if space == "flat":
        assert [str(ours.action(row)) for row in observations()] == wanted
    played = {str(ours.action(row)) for row in observations(300)}
    assert played <= set(CHOICES)


def test_the_net_is_affine_layers_with_tanh_between():
    ours = policy()
    (w0, b0), (w1, b1), (w2, b2) = ours.layers
    x = observations(1)[0]
    wanted = w2 @ np.tanh(w1 @ np.tanh(w0 @ x + b0) + b1) + b2
    np.testing.assert_allclose(ours.logits(x)[0], wanted, rtol=1e-5)


def test_drawn_actions_follow_the_softmax_of_the_scores():
    ours = policy("flat")
    x = observations(1)[0]
    logits = ours.logits(x)[0].astype(float)
    wanted = np.exp(logits - logits.max())
    wanted /= wanted.sum()
    drawn, _ = ours.predict(
        np.repeat(x[None], 20_000, 0), deterministic=False, rng=np.random.default_rng(0)
    )
    got = np.bincount(drawn, minlength=9) / len(drawn)
    np.testing.assert_allclose(got, wanted, atol=0.02)
    with pytest.raises(ValueError, match="needs rng"):
        ours.predict(x, deterministic=False)


NUMBERS = observations(1)[0]


def with_number(at: int, value: float) -> np.ndarray:
    return np.where(np.arange(5) == at, value, NUMBERS)


@each(
    "observation, told",
    [
        (NUMBERS[:4], r"has shape \(4,\), wanted 5 numbers"),
        (np.append(NUMBERS, 0), r"has shape \(6,\), wanted 5 numbers"),
        (np.float32(1), r"has shape \(\), wanted 5 numbers"),
        (NUMBERS[None, None], r"has shape \(1, 1, 5\), wanted 5 numbers"),
        ([], r"has shape \(0,\)"),
        (with_number(1, np.nan), "holds nan for val_loss"),
        (with_number(0, np.inf), "holds inf for progress"),
        (with_number(4, -np.inf), "holds -inf for last_method"),
        (with_number(0, 50), "holds 50 for progress, wanted a finite number from 0 to 1"),
        (with_number(1, -0.001), "holds -0.001 for val_loss, wanted .* from 0 to 3"),
        (["a"] * 5, "is no array"),
        (None, "wanted"),
        ([[1.0], [1.0, 2.0]], "is no array"),
    ],
)
def test_an_observation_that_is_none_is_refused_by_whatever_is_asked(observation, told):
    rule = Rule([Leaf(choice=MixAction.parse("none"))], list(OBSERVED), list(OBSERVED.values()))
    for ask in (policy().predict, policy("flat").action, policy().logits, rule.action):
        with pytest.raises(ConfigError, match=told):
            ask(observation)


def test_one_action_is_asked_with_one_observation():
    for ask in (policy().action, policy("flat").player().action):
        with pytest.raises(ConfigError, match=r"has shape \(1, 5\)"):
            ask(NUMBERS[None])
    for form in (NUMBERS.tolist(), NUMBERS.astype(np.float64), torch.from_numpy(NUMBERS)):
        assert policy().action(form) == policy().action(NUMBERS)


# Damage -----------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path) -> Path:
    return saved(tmp_path)


def saved(folder: Path) -> Path:
    save_policy(folder, policy())
    return folder


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "policy.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def replace_weights(folder: Path, weights: bytes) -> None:
    """Put other weights in, with a hash that fits: the work of somebody who means it."""
    (folder / "policy.safetensors").write_bytes(weights)
    edit(folder, lambda content: content.update(sha256=hashlib.sha256(weights).hexdigest()))


def change_tensors(folder: Path, change: Callable[[dict[str, np.ndarray]], Any]) -> None:
    tensors = load((folder / "policy.safetensors").read_bytes())
    change(tensors)
    replace_weights(folder, save(tensors))


def file(**changes: Any) -> Callable[[Path], None]:
    """Change keys of policy.json."""
    return lambda folder: edit(folder, lambda content: content.update(changes))


def without(key: str) -> Callable[[Path], None]:
    return lambda folder: edit(folder, lambda content: content.pop(key))


def written(text: str) -> Callable[[Path], Any]:
    return lambda folder: (folder / "policy.json").write_text(text, encoding="utf-8")


def form(change: Callable[[dict[str, Any]], Any] | None = None, **changes: Any):
    """Change the form in policy.json."""
    change = change or (lambda found: found.update(changes))
    return lambda folder: edit(folder, lambda content: change(content["form"]))


def weights(content: bytes) -> Callable[[Path], None]:
    return lambda folder: replace_weights(folder, content)


def tensors(change: Callable[[dict[str, np.ndarray]], Any]) -> Callable[[Path], None]:
    return lambda folder: change_tensors(folder, change)


def with_header(header: bytes, claimed: int | None = None, body: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header) if claimed is None else claimed) + header + body


def _truncate(folder: Path) -> None:
    path = folder / "policy.safetensors"
    path.write_bytes(path.read_bytes()[:-10])


def _flip(folder: Path) -> None:
    path = folder / "policy.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _endless(folder: Path) -> None:
    (folder / "policy.safetensors").unlink()
    (folder / "policy.safetensors").symlink_to("/dev/zero")


def _sparse(folder: Path) -> None:
    with (folder / "policy.safetensors").open("wb") as file:
        file.truncate(64 * 2**20 + 1)


CLAIMS_10_GB = json.dumps(
    {"layers.0.weight": {"dtype": "F32", "shape": [50_000, 50_000], "data_offsets": [0, 10**10]}}
).encode()
BFLOAT = json.dumps(
    {"layers.0.weight": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
).encode()

DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut off": (_truncate, "policy.safetensors is not the file .*sha256"),
    "a changed byte": (_flip, "policy.safetensors is not the file .*sha256"),
    "far too large": (_sparse, "policy.safetensors has 67108865 bytes, more than"),
    "weights of a device": (_endless, "policy.safetensors cannot be read: it is a device"),
    "weights missing": (
        lambda f: (f / "policy.safetensors").unlink(),
        "policy.safetensors does not exist",
    ),
    "no weights at all": (weights(b""), "policy.safetensors is damaged"),
    "a pickle": (weights(b"\x80\x04cos\nsystem\n."), "policy.safetensors is damaged"),
    "an endless header": (
        weights(with_header(b"{}", claimed=10**12)),
        "policy.safetensors is damaged",
    ),
    "a tensor of 10 GB in a small file": (
        weights(with_header(CLAIMS_10_GB)),
        "policy.safetensors is damaged",
    ),
    "numbers that NumPy lacks": (
        weights(with_header(BFLOAT, body=b"\0" * 4)),
        "policy.safetensors is damaged",
    ),
    "a NaN weight": (
        tensors(lambda t: t["layers.1.weight"].__setitem__((0, 0), np.nan)),
        "policy.json: .*layer 1 holds numbers that are not finite",
    ),
    "an infinite bias": (
        tensors(lambda t: t["layers.2.bias"].__setitem__(0, np.inf)),
        "policy.json: .*layer 2 holds numbers that are not finite",
    ),
    "a layer too few": (
        tensors(lambda t: t.pop("layers.2.bias")),
        "policy.json does not describe a policy: .*layers.2.bias",
    ),
    "a layer of another width": (
        tensors(lambda t: t.update({"layers.1.weight": np.zeros((4, 5), np.float32)})),
        r"policy.json: policy: layer 1 is \(4, 5\), wanted 6 inputs",
    ),
    "a bias of another width": (
        tensors(lambda t: t.update({"layers.1.bias": np.zeros(3, np.float32)})),
        "policy.json: policy: layer 1",
    ),
    "a weight without axes": (
        tensors(lambda t: t.update({"layers.0.weight": np.zeros((), np.float32)})),
        "policy.json",
    ),
    "a weight with three axes": (
        tensors(lambda t: t.update({"layers.0.weight": np.zeros((6, 5, 1), np.float32)})),
        "policy.json",
    ),
    "json missing": (lambda f: (f / "policy.json").unlink(), "policy.json does not exist"),
    "json cut off": (written('{"format": 1,'), "policy.json is not JSON"),
    "a list": (written("[1]"), "policy.json: format is list, wanted 1"),
    "another format": (file(format=2), "policy.json: format is 2, wanted 1"),
    "no format": (without("format"), "policy.json: format is None"),
    "no form": (without("form"), "policy.json does not describe"),
    "a form that is none": (file(form="factored"), "policy.json does not describe"),
    "no hash": (without("sha256"), "policy.safetensors is not the file"),
    "no number of layers": (without("layers"), "policy.json does not"),
    "layers in words": (file(layers="all"), "policy.json does not"),
    "layers without end": (file(layers=float("inf")), "policy.json does not"),
    "no layers": (file(layers=0), "policy.json: policy: no layers"),
    "a billion layers": (file(layers=10**9), "policy.json does not describe a policy: .*layers.3"),
    "another activation": (
        file(activation="gelu"),
        "policy.json: policy: activation is 'gelu', wanted 'tanh' or 'relu'",
    ),
    "about is no table": (file(about=[1]), "policy.json does not"),
    "a key too few": (form(lambda c: c.pop("ratios")), "policy.json does not describe .*ratios"),
    "a key too many": (form(shell="rm"), "policy.json does not describe .*shell"),
    "an unknown mix": (
        form(methods=["none", "mixup", "cutmx"]),
        "policy.json: 'cutmx' is not a mix.*'cutmix'",
    ),
    "an unknown choice": (
        form(lambda c: c["choices"].__setitem__(3, "mixop@0.5")),
        "policy.json: 'mixop' is not a mix.*'mixup'",
    ),
    "an unknown saliency": (
        form(saliency=["off", "spectrl"]),
        "policy.json: 'spectrl' is not a saliency.*'spectral'",
    ),
    "a ratio of 7": (
        form(ratios=[0.1, 7]),
        "policy.json: the ratio of mixup is 7, wanted 0 to 0.5",
    ),
    "a ratio that is NaN": (
        form(ratios=[0.1, float("nan")]),
        "policy.json: the ratio of mixup is nan",
    ),
    "a ratio in words": (form(ratios=["a", "b"]), "policy.json does not"),
    "a ratio of 400 digits": (
        form(ratios=[0.1, 10**400]),
        r"the ratio of mixup is 10{39}, wanted",
    ),
    "a billion choices": (
        form(methods=["mixup"] * 1000, ratios=[0.1] * 1000, saliency=["off"] * 1000),
        "its number of choices is 1000000000, wanted a number from 1 to 65536",
    ),
    "epochs per action of none": (form(epochs_per_action=0), "epochs_per_action is 0, wanted"),
    "a part of an epoch": (form(epochs_per_action=1.5), "epochs_per_action is 1.5, wanted"),
    "epochs per action in words": (form(epochs_per_action="four"), "epochs_per_action is 'four'"),
    "decisions below none": (form(decisions=-3), "decisions is -3"),
    "epochs without end": (form(epochs_per_action=float("inf")), "epochs_per_action is inf"),
    "an observation of no numbers": (form(observation_sizes=[0, 2, 3]), "size is 0, wanted"),
    "half a number": (form(observation_sizes=[0.5, 1.5, 3]), "size is 0.5, wanted"),
    "a choice too few": (
        form(lambda c: c["choices"].pop()),
        "policy.json: policy: choices are .* but its methods, ratios and saliency make",
    ),
    "a choice twice": (
        form(lambda c: c["choices"].__setitem__(1, "none")),
        "policy.json: policy: choices are none, none",
    ),
    "choices in numbers": (form(choices=[1, 2]), "policy.json does not"),
    "an unknown space": (
        form(space="ball"),
        "policy.json: policy: space is 'ball', wanted one of 'factored', 'flat', 'box'",
    ),
    "a size too few": (
        form(lambda c: c["observation_sizes"].pop()),
        "policy.json: policy: 3 observations, but 2 sizes",
    ),
    "sizes in words": (form(observation_sizes=["a", "b", "c"]), "size is 'a'"),
    "sizes that do not fit the weights": (
        form(observation_sizes=[1, 1, 4]),
        r"policy.json: policy: layer 0 is \(6, 5\), wanted 6 inputs",
    ),
    "outputs that do not fit the space": (
        form(space="flat"),
        "policy.json: policy: 7 outputs, wanted 9",
    ),
}


@each("damage, told", DAMAGE.values())
def test_what_is_damaged_is_refused_with_the_file_named(tmp_path, damage, told):
    folder = saved(tmp_path)
    damage(folder)
    with pytest.raises(DataError, match=told) as error:
        load_policy(folder)
    assert str(folder) in error.value.message
    assert "\n" not in error.value.message
    assert error.value.exit_code == 3


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere/policy.json does not exist"):
        load_policy(tmp_path / "nowhere")


@each("space", ["factored", "flat", "box"])
def test_a_policy_of_published_names_survives_its_files(tmp_path, space):
    methods, ratios = ["none", "lumix", "snapmix", "cutmix+spectral"], [0.25, 0.5]
    guides = ["off", "spectral"]
    every = dict.fromkeys(nearest_action(*parts) for parts in product(methods, ratios, guides))
    outputs = {"factored": 8, "flat": len(every), "box": 7}[space]
    form = PolicyForm(
        observations=["progress"],
        observation_sizes=[1],
        methods=methods,
        ratios=ratios,
        saliency=guides,
        space=space,
        choices=[str(action) for action in every],
    )
    weight = np.random.default_rng(1).normal(size=(outputs, 1)).astype(np.float32)
    layers = [(weight, np.zeros(outputs, np.float32))]
    output = "clip" if space == "box" else "logits"
    saved = MixPolicy(form, PolicyNet(layers=layers, output=output), {})
    save_policy(tmp_path, saved)
    loaded = load_policy(tmp_path)
    assert list(loaded.form.methods) == methods
    seen = [saved.action(np.array([x], np.float32)) for x in (0.0, 0.5, 1.0)]
    assert seen == [loaded.action(np.array([x], np.float32)) for x in (0.0, 0.5, 1.0)]
    if space == "flat":
        played = [str(loaded.mix_of(np.array(i))) for i in range(outputs)]
        assert played == [str(action) for action in every]
        assert "asymmetric_cutmix@0.25+cam:cam_mass" in played
    elif space == "factored":
        assert str(loaded.mix_of(np.array([2, 0, 1]))) == "asymmetric_cutmix@0.25+cam:cam_mass"
        assert str(loaded.mix_of(np.array([1, 1, 1]))) == "cutmix@0.5+spectral:perturbed"
    else:
        numbers = np.array([-1, -1, 1, -1, 0, -1, 1], np.float32)
        assert str(loaded.mix_of(numbers)) == "asymmetric_cutmix@0.25+cam:cam_mass"
