"""Optional packages: which extra of automix installs what, and one line where it is missing."""

from __future__ import annotations

from importlib.util import find_spec

from automix.core.errors import ResourceError

EXTRAS: dict[str, tuple[str, ...]] = {
    "learn": (
        *("gymnasium", "stable_baselines3", "sb3_contrib", "hydra"),
        *("click", "rich", "sklearn", "torchmetrics"),
    ),
    "ray": ("ray",),
    "report": ("matplotlib", "jinja2", "pydantic"),
    "controls": ("optuna",),
    "onnx": ("onnx", "onnxscript"),
}
"""Extra -> the packages that it installs, as they are imported."""


class MissingExtraError(ResourceError, ImportError):
    """A package of an extra is not installed."""


def require(*extras_or_packages: str, hint: str = "") -> None:
    """Refuse what needs an optional package, before any of the work is done.

    Args:
        extras_or_packages: Extras, which stand for all of their packages, or single packages.
        hint: What would do without it.

    Raises:
        MissingExtraError: If a package is not installed; the one line names the extra to install.
    """
    packages = [p for name in extras_or_packages for p in EXTRAS.get(name, (name,))]
    for package in packages:
        if find_spec(package) is None:
            extra = next(extra for extra, own in EXTRAS.items() if package in own)
            told = f'{package} is not installed: pip install "automix[{extra}]"'
            raise MissingExtraError(told, hint)
