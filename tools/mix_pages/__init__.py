"""The pages of ``docs/mixes``, one a method, made of its docstrings and of the registries.

``docstrings`` reads, ``shares`` and ``passes`` measure, the gallery draws, this module writes. One
command makes all of them again: ``python -m tools.mix_pages``. What makes training steps of its
own has no mask to draw and no share that is not the net's, so its page has neither.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from automix.core.files import write_bytes, write_text
from automix.core.registry import Entry
from automix.mixes import MIXES, MixFunction, MixInfo
from automix.mixing.actions import PRESETS, MixAction, form_of
from automix.saliency import SALIENCY
from automix.training.requirements import supports
from tools.mix_pages.docstrings import MixDocs, Setting, read_docs
from tools.mix_pages.passes import step_passes
from tools.mix_pages.shares import RATIOS, SIZES, drawn, realised_share, share_forms

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "mixes"
INDEX = "README.md"

COMMAND = "python -m tools.mix_pages"

ShareOf = Callable[[str, float, int], float | None]
"""(form, ratio, side) -> realised share."""


def write_pages(folder: Path = FOLDER) -> list[Path]:
    """Write a page for each method, the pictures, and the index; return what was written."""
    # Here, not above: only pictures need matplotlib and a trained classifier.
    from tools.mix_pages.pictures import pictures

    written = []
    for name, text in texts():
        written.append(folder / name)
        write_text(folder / name, text)
    for name, picture in pictures():
        written.append(folder / name)
        write_bytes(folder / name, picture)
    return written


def texts(share_of: ShareOf = realised_share) -> Iterator[tuple[str, str]]:
    """Yield the file name and the text of each page and of the index."""
    entries = MIXES.entries()
    rows = {entry.name: _share_rows(entry.name, share_of) for entry in entries}
    for entry in entries:
        yield f"{entry.name}.md", _page(entry, read_docs(entry.value), rows[entry.name])
    yield INDEX, _index(entries, [row for found in rows.values() for row in found])


# A page ------------------------------------------------------------------------------------------


def _page(entry: Entry[MixFunction, MixInfo], docs: MixDocs, shares: Sequence[str]) -> str:
    name = entry.name
    guided, points = entry.info.guided, entry.info.points
    source = f"automix/mixes/{entry.value.__module__.rpartition('.')[2]}.py"
    parts = {
        "Idea": docs.idea,
        "Picture": _picture(name) if drawn(name) else "",
        "Formula": f"```\n{docs.sections['Formula']}\n```" if "Formula" in docs.sections else "",
        "Guided by saliency": docs.sections.get("Guided", "") if guided else "",
        "Use": _use_of_points(name) if points else _use(name),
        "Requires": _requires(entry),
        "Settings": _settings(name, docs.settings),
        "Asked for and got": _SHARES.strip() + "\n\n" + _share_table(shares) if shares else "",
        "Cost": _cost(name, guided and not points),
        **{head: text for head, text in docs.sections.items() if head not in _ELSEWHERE},
        "Source": docs.source,
        "Differences from the paper": docs.sections.get("Differs", ""),
    }
    made = f"Made by `{COMMAND}` from the docstrings of `{source}` and the registries."
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in parts.items() if text)
    return f"# {docs.title}\n\n{made}\n\n{body}\n"


_ELSEWHERE = {"Formula", "Guided", "Differs", "Raises", "Returns"}
"""Sections of a docstring that have another heading here, or none."""

_PICTURE_LEGEND = """
Large: the mixed image, its label below. Small: the mask (blue is not the image's own) and, where
there is one, the partner; below them, where guided, the saliency of the image and of its partner,
by a classifier after two epochs.
The digits are enlarged, and shares are drawn near the ratio (a concentration of 50).
"""

_SHARES = """
Mean realised share: how much of an image is not its own, but its partner's, or erased. Over all
digits and six draws each, standard error 0.003 or less; at 32x32 the digits are enlarged. Guided
forms depend on the images.
"""


def _picture(name: str) -> str:
    return f"![{name} on a few digits]({name}.png)\n\n{_PICTURE_LEGEND.strip()}"


def _use(name: str) -> str:
    action = MixAction.parse(name)
    fixed = f"fixed:{action}" if action.mixes else str(action)
    methods = ",".join(dict.fromkeys(["none", name]))
    published = [
        f"- `{preset}` stands for `{form}`"
        for preset, form in PRESETS.items()
        if form_of(preset).method == name
    ]
    use = (
        f"`{action}` is the action; `env.actions.methods=[{methods}]` offers it to an agent,\n"
        f"and `compare.contestants=[{fixed}]` plays it all along."
    )
    return "\n\n".join([use, "Published names:", "\n".join(published)] if published else [use])


def _use_of_points(name: str) -> str:
    return (
        f"`{MixAction.parse(name)}` is the action; `mix_batch` takes clouds (b, points, "
        "coordinates) in the place\nof images. Guided, it is given their maps, (b, points, 1), by "
        "`saliency=`: no provider looks at\nclouds. Environments train on images."
    )


def _requires(entry: Entry[MixFunction, MixInfo]) -> str:
    """Return what a method asks of net and training; nothing where it is a mask on any images."""
    lines = []
    if entry.info.required(guided=False):
        names = " and ".join(f"`{name}`" for name in entry.info.required(guided=False))
        lines.append(f"The net must show its {names} ({', '.join(supports(entry.info))}).")
    if entry.info.step:
        lines.append(
            "It is a training step of its own: this project's trainer makes it, and\n"
            "`automix.mixing.loss.loss_of` in a loop of yours; `mix_batch` cannot."
        )
    if entry.info.state is not None:
        lines.append(
            "It keeps a state from step to step, which is part of every snapshot; in a loop of\n"
            "yours `automix.mixing.loss.new_state` makes it."
        )
    return "\n".join(lines)


def _settings(name: str, settings: Sequence[Setting]) -> str:
    if not settings:
        return "None of its own."
    rows = [f"| `{s.name}` | {s.default} | {s.meaning} |" for s in settings]
    first = f"{name}.{settings[0].name}={settings[0].default}"
    head = f'Set as in `trainer.mix.options=["{first}"]`, in a shell between single quotes.'
    return "\n".join([head, "", "| setting | default | means |", "|---|---|---|", *rows])


def _cost(name: str, guided: bool) -> str:
    own = step_passes(name) if MIXES.info(name).step else (0, 0)
    if own is None:
        return "Not measured: no net of this project has what it requires."
    rows = [f"| unguided | {own[0]} | {own[1]} |"]
    for provider in SALIENCY.entries() if guided else ():
        forward, backward = provider.info.passes
        rows.append(f"| guided by `{provider.name}` | {own[0] + forward} | {own[1] + backward} |")
    head = "Passes over the samples, besides the one forward and one backward of the training step:"
    return "\n".join([head, "", "| form | forward | backward |", "|---|---|---|", *rows])


# Tables ------------------------------------------------------------------------------------------


def share_table(methods: Iterable[str], share_of: ShareOf = realised_share) -> str:
    """Return the Markdown table of realised shares, a row for each form of each method."""
    return _share_table([row for name in methods for row in _share_rows(name, share_of)])


def _share_rows(name: str, share_of: ShareOf) -> list[str]:
    rows = []
    for form in share_forms(name):
        got = [share_of(form, ratio, side) for side in SIZES for ratio in RATIOS]
        cells = ["-" if share is None else f"{share:.2f}" for share in got]
        rows.append(f"| {form} | {' | '.join(cells)} |")
    return rows


def _share_table(rows: Sequence[str]) -> str:
    heads = [f"{ratio:g} at {side}x{side}" for side in SIZES for ratio in RATIOS]
    return "\n".join(
        [f"| asked for | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|", *rows]
    )


def _index(entries: Sequence[Entry[MixFunction, MixInfo]], shares: Sequence[str]) -> str:
    rows = [
        f"| [{entry.name}]({entry.name}.md) | {entry.summary.replace('``', '`')} "
        f"| {'yes' if entry.info.guided else ''} | {', '.join(entry.info.needs)} "
        f"| {', '.join(supports(entry.info))} |"
        for entry in entries
    ]
    heads = ("name", "what it does", "guided by saliency", "requires", "works with")
    methods = "\n".join([f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *rows])
    return (
        f"{_INDEX.strip()}\n\n{methods}\n\n"
        f"## Published names\n\n{_PRESETS.strip()}\n\n{_presets()}\n\n"
        f"## Asked for and got\n\n{_SHARES.strip()}\n\n{_share_table(shares)}\n"
    )


def _presets() -> str:
    rows = [
        f"| `{name}` | [`{form}`]({form_of(name).method}.md) |" for name, form in PRESETS.items()
    ]
    return "\n".join(["| name | stands for |", "|---|---|", *rows])


_INDEX = f"""
# The mix methods

One page each, with a picture. Made by `{COMMAND}` from the docstrings in
`automix/mixes/` and the registries; [mixing.md](../mixing.md) says what they have in common. All of
them on one sheet, for your own data too:

```
python run.py gallery task=digits
```
"""

_PRESETS = """
What a paper's method is made of here: method, saliency, label rule. The name can be written
wherever a method can.
"""
