"""What a bug report should hold, and one tiny episode to see that all of it works."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import torch

from automix.agents.runs.rundir import describe_machine
from automix.core.extras import EXTRAS, MissingExtraError, require
from automix.envs.mix_env import MixEnv, image_world
from automix.training.settings import TrainerSettings


def examine() -> dict[str, str]:
    """Return findings by name, in the order in which they matter."""
    machine = describe_machine()
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    return {
        "automix": machine["automix"],
        "source": machine["git"] or "installed, not a checkout",
        "python": machine["python"],
        "platform": machine["platform"],
        "processor": f"{machine['cpu']}, {machine['cores']} usable cores",
        "gpus": ", ".join(torch.cuda.get_device_name(i) for i in range(gpus)) or "none",
        "free disk here": f"{free:.1f} GB",
        **machine["versions"],
        **{f"extra {extra}": _extra(extra) for extra in EXTRAS},
        "data": _data(),
        "one tiny episode": _episode(),
    }


def _extra(name: str) -> str:
    try:
        require(name)
    except MissingExtraError as error:
        return str(error)
    return "installed"


def _data() -> str:
    images = image_world().family.images
    return f"{images.name}: {len(images.labels)} images of {images.num_classes} classes, embedded"


def _episode() -> str:
    start = time.monotonic()
    env = MixEnv(image_world(trainer=TrainerSettings(epochs=2)))
    env.reset(seed=0)
    env.action_space.seed(0)
    ended = False
    while not ended:
        _, reward, ended, _, info = env.step(env.action_space.sample())
    return f"ok, last reward {reward:+.3f} with {info['mix']}, {time.monotonic() - start:.1f} s"
