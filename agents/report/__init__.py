"""The report of a run: one page that a newcomer and an expert can both read and check.

``run_files`` reads, ``text`` writes sentences, ``drawing`` and ``figures`` draw, ``page`` fills the
template.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from automix.core.extras import require
from automix.core.files import write_text

if TYPE_CHECKING:
    from automix.agents.report.drawing import Picture


def write_report(run_dir: Path) -> Path:
    """Write ``report/index.html`` and its figures from the files of a finished run.

    The page is one file: it loads nothing, runs no script, and follows the reader's light or dark
    colours. Equal run files give equal bytes.

    Args:
        run_dir: Holds ``result.json``, ``trials.jsonl``, ``config.yaml``, ``command.txt``,
            ``env.json`` and, if the run learned, ``metrics.jsonl``.

    Returns:
        The page.

    Raises:
        DataError: If a file is missing or damaged.
        ResourceError: If the report cannot be written.
    """
    require("report")
    # Here, not above: matplotlib takes a second to import, which no other command should wait for.
    from automix.agents.report.page import render
    from automix.agents.report.run_files import read_run

    page, pictures = render(read_run(run_dir))
    folder = run_dir / "report"
    for picture in pictures:
        write_text(folder / f"{picture.name}.svg", picture.svg)
    write_text(folder / "index.html", page)
    _remove_old(folder, pictures)
    return folder / "index.html"


def _remove_old(folder: Path, pictures: list[Picture]) -> None:
    """Remove figures of an earlier report that this one does not have."""
    names = {f"{picture.name}.svg" for picture in pictures}
    for path in folder.glob("*.svg"):
        if path.name not in names:
            path.unlink()
