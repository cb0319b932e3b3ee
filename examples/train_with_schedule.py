"""Train your own net in your own loop, with a schedule: python examples/train_with_schedule.py.

An export folder or schedule.yaml as the first word replaces the schedule that is built here.
"""

import sys

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from automix import MixAction, MixSchedule, load_schedule
from automix.nets.create import create_classifier

EPOCHS, BATCH_SIZE = 10, 50


def my_schedule():
    # Four fifths of the budget CutMix, then real images; it stretches to any number of epochs.
    return MixSchedule([MixAction("cutmix", 0.5)] * 4 + [MixAction("none", 0.0)])


def main(path=None):
    schedule = load_schedule(path) if path else my_schedule()
    digits = load_digits()
    images = torch.from_numpy(digits.images.astype(np.float32) / 16)[:, None]
    labels = torch.from_numpy(digits.target)
    model = create_classifier("small_cnn_w8", num_classes=10, shape=(1, 8, 8), seed=0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    mixer = schedule.mixer(num_classes=10, epochs=EPOCHS)
    order = torch.Generator().manual_seed(0)
    for epoch in range(EPOCHS):
        mixer.set_epoch(epoch)
        model.train()
        for index in torch.randperm(600, generator=order).split(BATCH_SIZE):
            mixed, targets = mixer(images[index], labels[index], classifier=model)
            loss = F.cross_entropy(model(mixed), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            accuracy = (model(images[600:]).argmax(1) == labels[600:]).float().mean()
        print(f"epoch {epoch + 1:2d}  {mixer.action!s:16s} accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
