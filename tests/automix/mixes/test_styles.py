"""What takes the partner's style and keeps the label: MixStyle on pixels, amplitude mix."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from automix.core.seeding import generator
from automix.mixes.amplitude_mix import InAmplitude
from automix.mixes.mixstyle import InStatistics
from tests.automix.mixes.drawing import mixed, noise
from tests.cases import each
from tests.references import styles as reference

METHODS = ["mixstyle", "amplitude_mix"]


@each("size", [(6, 5), (5, 6), (1, 4)])
@each("method", METHODS)
def test_blending_with_the_restyled_image_mixes_the_statistics_of_the_slow_twin(method, size):
    """Brightness apart: amplitudes know none below zero, so images are made bright."""
    images = noise(0, 4, 2, *size) + 4
    result = mixed(method, images)
    assert torch.equal(result.targets, torch.eye(4))
    assert torch.equal(result.lam, torch.ones(4))
    for i, j in enumerate(result.partner.tolist()):
        share = float(result.mask[i])
        for channel in range(2):
            own, partner = images[i, channel].tolist(), images[j, channel].tolist()
            if method == "mixstyle":
                wanted = reference.mixstyle(own, partner, share)
            else:
                wanted = reference.mixed_amplitude(own, partner, share, reach=1)
            got = result.images[i, channel]
            assert_close(got, torch.tensor(wanted), atol=2e-4, rtol=0)
    assert float((result.images - images).abs().max()) > 0.1


def test_an_image_in_the_partners_statistics_has_them():
    own, partner = noise(0, 3, 2, 8, 8), 2 * noise(1, 3, 2, 8, 8) + 5
    restyled = InStatistics(3)(own, partner)
    for statistic in (torch.mean, torch.std):
        assert_close(statistic(restyled, (2, 3)), statistic(partner, (2, 3)), atol=1e-4, rtol=0)
    plain = InStatistics(3)(torch.full_like(own, 3), partner)
    assert_close(plain, partner.mean((2, 3), keepdim=True).expand_as(plain))


def test_brightness_is_mixed_with_its_sign():
    """As it would be were all pixels raised beforehand, so that none is negative."""
    own, partner = noise(0, 3, 2, 8, 8) - 1, noise(1, 3, 2, 8, 8) + 2
    restyled = InAmplitude(3, 0.2)(own, partner)
    assert_close(restyled.mean((2, 3)), partner.mean((2, 3)))
    raised = InAmplitude(3, 0.2)(own + 10, partner + 10) - 10
    assert_close(restyled, raised, atol=2e-5, rtol=0)


@each("window, taken", [(0.0, 1), (0.1, 2), (0.5, 10)])
def test_amplitudes_are_the_partners_up_to_the_window(window, taken):
    own, partner = noise(0, 2, 1, 20, 24), noise(1, 2, 1, 20, 24)
    spectra = [
        torch.fft.fft2(one)[0, 0].abs()
        for one in (own, partner, InAmplitude(2, window)(own, partner))
    ]
    low = [spectrum[: taken + 1, : taken + 1] for spectrum in spectra]
    assert_close(low[2], low[1], atol=1e-3, rtol=1e-4)
    high = [spectrum[taken + 1 : 11, taken + 1 : 13] for spectrum in spectra]
    assert_close(high[2], high[0], atol=1e-3, rtol=1e-4)


@each("moved", [InStatistics(7), InAmplitude(7, 0.1)])
def test_some_of_them_are_as_many_as_there_are_rows(moved):
    assert len(moved) == 7
    assert len(moved[2:5]) == 3
    assert len(moved[generator(0).integers(0, 7, 12)]) == 12
    maps = noise(0, 7, 4, 4)
    assert moved.maps(maps, maps.flip(0)) is maps
