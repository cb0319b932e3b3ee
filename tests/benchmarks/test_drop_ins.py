"""The benchmark of the drop-ins for timm, on planted figures and on tiny images."""

from __future__ import annotations

import pytest

from benchmarks.measures import drop_ins


@pytest.mark.parametrize(("ratio", "met"), [(1.04, True), (1.06, False)])
def test_steps_are_judged_and_mixing_alone_is_not(ratio, met):
    row = {"px": 32, "method": "mixup", "mixed": "collated", "ratio": 2.0, "step ratio": ratio}
    (target,) = drop_ins.section([row]).targets
    assert target.met == met


@pytest.mark.parametrize("method", drop_ins.ALPHAS)
def test_both_mix_the_same_batch_in_both_places(method):
    rows = drop_ins.measured(8, 4, method, seconds=0)
    assert [row["mixed"] for row in rows] == ["in the loop", "collated"]
    assert all(row["timm ms"] > 0 and row["step ratio"] > 0 for row in rows)
    for mixes in drop_ins.forms(8, 4, method).values():
        (images, targets), (ours, our_targets) = (mix() for mix in mixes.values())
        assert (ours.shape, ours.dtype) == (images.shape, images.dtype)
        assert our_targets.shape == targets.shape
        assert float(our_targets.sum()) == pytest.approx(float(targets.sum()))
