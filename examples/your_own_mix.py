"""Register a mix of your own and see that it keeps the contract: python examples/your_own_mix.py.

In the package the function goes into a file of its own, automix/mixes/<name>.py. The tests, the
command list and the action space then know it by name; see docs/mixing.md.
"""

import numpy as np
import torch

from automix import MixAction, mix_batch
from automix.core.seeding import generator
from automix.mixes import MIXES, MixInputs


@MIXES.register("stripes")
def stripes(inputs):
    """Take a share of the rows, anywhere, from the partner."""
    height, width = inputs.size
    order = inputs.rng.random((len(inputs.share), height)).argsort(1)
    taken = order < (inputs.share * height).round()[:, None]
    return taken[:, None, :, None].repeat(width, 3).astype(np.float32)


def main():
    labels = torch.arange(16).repeat(100)
    images = labels.float()[:, None, None, None].expand(-1, 3, 16, 16)  # image i is the constant i
    for ratio in (0.1, 0.25, 0.5):
        rng = generator(0, "example", "stripes")
        mixed = mix_batch(images, labels, MixAction("stripes", ratio), num_classes=16, rng=rng)
        shown, told = mixed.images.mean((1, 2, 3)), mixed.targets @ torch.arange(16.0)
        agree = torch.allclose(shown, told, atol=1e-4)
        print(f"asked for {ratio}, got {(1 - mixed.lam).mean():.3f}; label tells pixels: {agree}")
    for whole in (0.0, 1.0):
        share = np.full(8, whole, np.float32)
        mask = stripes(MixInputs(share, (16, 16), whole, generator(0, "example")))
        print(f"a share of {whole} gives a mask of {np.unique(mask).tolist()}")


if __name__ == "__main__":
    main()
