"""FMix: the highest part of low-frequency noise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from automix.core.seeding import generator
from automix.mixes.fmix import FAINTEST, _amplitudes, highest, highest_there, noise
from tests.automix.mixes.drawing import SHARES, drawn, pixels, random_maps, realised
from tests.cases import each
from tests.references import fmix as reference


@each("guided", [False, True])
@each("share", SHARES)
def test_the_realised_share_is_the_wanted_one_but_for_the_rounding(share, guided):
    got = realised("fmix", share, (9, 7), guided=guided) * 63
    down, up = np.floor(share * 63), np.ceil(share * 63)
    assert set(got.round(3)) == {down, up}
    assert abs((got.round() == up).mean() - 0.5) < 0.04  # one as likely as the other
    assert abs(realised("fmix", share, (10, 10), guided=guided) - share).max() < 1e-6


@each("size", [(6, 9), (7, 4), (1, 5), (3, 2)])
def test_the_mask_is_the_one_of_the_slow_twin(size):
    count = np.arange(4) * size[0] * size[1] // 3
    masks = drawn("fmix", count / (size[0] * size[1]), size, decay=2.0)
    drawn_numbers = generator(0, "mask").standard_normal((4, size[0], size[1] // 2 + 1, 2), "f")
    for i, got in enumerate(pixels(masks)):
        spectrum = drawn_numbers[i].astype(float).view(complex)[..., 0].tolist()
        waves = reference.noise(spectrum, *size, 2.0)
        assert_close(
            torch.from_numpy(noise(4, size, 2.0, generator(0, "mask"))[i]), torch.tensor(waves)
        )
        assert got == reference.highest(waves, int(count[i]))


def test_waves_that_are_left_out_would_move_nothing():
    """At 224 pixels they hold a millionth of the variance; at 32 there are none."""
    rows, kept = _amplitudes((224, 224), 3.0)
    frequency = np.hypot(np.fft.fftfreq(224)[:, None], np.fft.rfftfreq(224))
    every = (1 / np.maximum(224 * frequency, 1)) ** 6
    assert kept.shape == (len(rows), kept.shape[1])
    assert kept.shape[1] < 30
    assert (kept.astype(float) ** 2).sum() > every.sum() * (1 - 2e-6)
    for decay in (0.0, 1.0):
        assert _amplitudes((64, 64), decay)[1].shape == (64, 33)
    assert _amplitudes((32, 32), 3.0)[1][0, -1] == pytest.approx(16**-3)
    assert FAINTEST < 16**-3


def test_more_decay_has_shorter_borders():
    def border(decay: float) -> float:
        mask = drawn("fmix", np.full(60, 0.5), (32, 32), decay=decay).weight
        return float(abs(np.diff(mask, axis=2)).mean() + abs(np.diff(mask, axis=3)).mean())

    assert border(5.0) < 0.9 * border(3.0)
    assert border(3.0) < 0.4 * border(1.0)


def test_the_highest_are_chosen_whatever_the_numbers_are():
    """Among them equal ones, all equal ones, and tiny ones beside large ones; each row its own."""
    rng = generator(1)
    rows = [rng.random(50), np.zeros(50), rng.integers(0, 3, 50), rng.random(50) * 1e-30]
    rows += [np.append(rng.random(49) * 1e-30, 1e30), -rng.random(50), rng.random(50)]
    values, count = np.float32(rows), np.array([7, 20, 20, 25, 25, 49, 0])
    for mask in (highest(values, count), highest_there(torch.from_numpy(values), count).numpy()):
        assert mask.sum(1).tolist() == count.tolist()
        for row, chosen in zip(values, mask.astype(bool), strict=True):
            assert not chosen.any() or row[chosen].min() >= row[~chosen].max(initial=-np.inf)
    whole = np.full(7, 50)
    assert highest(values, whole).all()


def test_a_flat_map_guides_nowhere():
    flat = torch.full((30, 9, 12), 1 / 108)
    guided = drawn("fmix", np.full(30, 0.4), (9, 12), guided=True, maps=[flat, flat])
    assert pixels(guided) == pixels(drawn("fmix", np.full(30, 0.4), (9, 12)))


def test_guidance_says_how_much_of_the_saliency_is_covered():
    maps = random_maps(400, (16, 16), seed=2)

    def covered(guidance: float) -> float:
        share = np.full(400, 0.3)
        how = {"guided": True, "maps": [maps.flip(1), maps], "guidance": guidance}
        return float(
            (drawn("fmix", share, (16, 16), **how).weight[:, 0] * maps.numpy()).sum() / 400
        )

    amounts = [covered(guidance) for guidance in (0.0, 0.5, 1.0, 4.0)]
    assert abs(amounts[0] - 0.3) < 0.03
    assert amounts == sorted(amounts)
    assert amounts[3] > amounts[0] + 0.2
