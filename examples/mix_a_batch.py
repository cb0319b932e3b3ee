"""Mix one batch and look at what came out: python examples/mix_a_batch.py."""

import torch

from automix import MixAction, mix_batch
from automix.core.seeding import generator

images = torch.arange(4.0)[:, None, None, None].expand(4, 3, 32, 32)  # image i is the constant i
labels = torch.arange(4)

mixed = mix_batch(
    images, labels, MixAction("cutmix", ratio=0.5), num_classes=4, rng=generator(0, "example")
)
for i, (partner, lam) in enumerate(zip(mixed.partner.tolist(), mixed.lam.tolist(), strict=True)):
    print(f"image {i} keeps {lam:.3f} of itself, the rest is image {partner}")
print("mean pixel:", mixed.images.mean((1, 2, 3)).tolist())
print("mean label:", (mixed.targets @ labels.float()).tolist(), "- the label tells what is shown")
