"""Folders of images, one folder a class, as they lie on disks."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import permutations
from pathlib import Path

import numpy as np
from timm.utils.misc import natural_key

from automix.core.errors import ConfigError, DataError, ResourceError
from automix.data import DATASETS, DatasetInfo, DataSource
from automix.data.image_set import ImageSet, Origin, shown
from automix.data.pictures import Pictures, image_set, open_file

SUFFIXES = frozenset(
    (
        *(".png", ".jpg", ".jpeg", ".jfif", ".jpe", ".webp", ".bmp", ".dib", ".tif", ".tiff"),
        *(".gif", ".avif", ".jp2", ".pbm", ".pgm", ".ppm", ".pnm", ".tga"),
    )
)
"""Of the files that are read, in any case: what people keep pictures in and Pillow decodes."""

TRAINING = ("train", "training")
EVALUATION = ("test", "testing", "val", "valid", "validation", "eval", "evaluation", "dev")
"""Words for the evaluation folder, best first."""
UNLABELLED = ("pred", "predict", "prediction", "predictions", "unlabeled", "unlabelled")
"""Words for a folder of images to be classified, which is no class."""
AROUND = {"set", "seg", "data", "dataset", "img", "image", "images", "split", "folder"}
"""What may stand beside such a word: ``seg_train``, ``training_set``."""

SYSTEM = {"__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found"}
SYSTEM |= {"thumbs.db", "desktop.ini", "#recycle", "@recycle", "@recently-snapshot"}
"""Names, in lower case, that systems leave behind; others begin with a dot."""

SHOWN = 5
"""How many names a message lists."""


@DATASETS.register("folder", DatasetInfo(resizes=True, settings=("class_folder",)))
def folder(source: DataSource) -> ImageSet:
    """Class folders of pictures: ``root/cat/1.png``, or ``root/train/cat/1.png``.

    If ``root``, or the only folder in it, has a training and an evaluation folder (``train`` and
    ``val``, ``Training`` and ``Testing``, ``seg_train`` and ``seg_test`` ...), the second is the
    test part and both must hold the same classes. Otherwise all of ``root`` is one pool. The
    folder that an image lies in names its class; where the folders above could as well,
    ``class_folder`` must say. Grey, palette and transparent images become RGB. Hidden files, what
    systems leave behind and other types are left out and counted.
    """
    if not source.root:
        raise ConfigError(
            "task.root is empty, wanted the folder that holds the class folders",
            "set task.root=path/to/images",
        )
    root = Path(source.root)
    if not os.path.isdir(root):  # which, unlike Path.is_dir, takes paths of any length
        what = "is a file, wanted a folder" if os.path.exists(root) else "does not exist"
        raise DataError(f"{root}: {what}", "task.root names the folder of the class folders")
    origin = Origin()
    trees, outer = _trees(root, source.class_folder, origin)
    _count_once(trees, outer, origin)
    samples = [tree.samples(outer) for tree in trees]
    class_names = _agreed_classes(samples, [tree.part for tree in trees])
    for tree in trees:
        tree.tell(origin)
    return image_set(
        [_pictures(part, class_names) for part in samples],
        source,
        name=root.resolve().name,
        class_names=class_names,
        origin=origin,
    )


def _trees(root: Path, chosen: str, origin: Origin) -> tuple[list[_Tree], bool]:
    """Return what lies in the pool and, if there is one, in the evaluation part.

    Returns:
        These, and whether the outermost folders name the classes.
    """
    train, evaluation, beside = _parts(root)
    trees = [_Tree(train, {})]
    outer = _outer(trees[0], chosen)
    for part in evaluation:
        if len(trees) > 1:
            beside.append(part.name)
            continue
        tree = _Tree(part, dict(trees[0].entered))
        if tree.unlabelled(trees[0], outer):
            origin.warnings.append(f"{part}: no class folders, taken as unlabelled and left out")
            continue
        tree.check()
        trees.append(tree)
        origin.test = f"the folder {part.name}"
    if beside:
        origin.leave_out(len(beside), f"folders beside {train.name} ({_listed(beside)})")
    return trees, outer


def _parts(root: Path) -> tuple[Path, list[Path], list[str]]:
    """Return the training folder, evaluation folders, best first, and names of others.

    Without both of the former, all of the root is one pool.
    """
    top: Path | None = root
    while top:
        entries = [entry for entry in _entries(top) if not _hidden(entry.name)]
        folders = [entry for entry in entries if _is_folder(entry)]
        words = {entry.name: _word(entry.name) for entry in folders}
        training = [name for name in words if words[name] in TRAINING]
        evaluation = [name for word in EVALUATION for name in words if words[name] == word]
        if training and evaluation:
            if len(training) > 1:
                raise DataError(
                    f"{top}: several training folders: {_listed(training)}",
                    "join them, or move all but one elsewhere",
                )
            others = [name for name in words if name not in (*training, *evaluation)]
            return top / training[0], [top / name for name in evaluation], others
        # Archives are often unpacked into a folder of their own name.
        alone = len(folders) == 1 and not folders[0].is_symlink()
        stray = any(_suffix(entry.name) in SUFFIXES for entry in entries if entry not in folders)
        top = top / folders[0].name if alone and not stray else None
    return root, [], []


# What lies there ---------------------------------------------------------------------------------


class _Tree:
    """What lies in one part and below; each real folder is entered once, however often linked.

    Args:
        part: The folder.
        entered: Real paths, and the paths by which they were entered before; this adds its own.

    Raises:
        DataError: If a link leads to a folder above it.
        ResourceError: If a folder cannot be read.
    """

    def __init__(self, part: Path, entered: dict[str, str]) -> None:
        self.part, self.entered = part, entered
        self.images: list[str] = []
        self.links: list[str] = []
        """Those of the images that are symbolic links."""
        self.again: list[tuple[str, str]] = []
        """Links, and what they lead to that is read already."""
        self.others, self.hidden = Counter[str](), 0
        """Files of other types by suffix, and how many are hidden."""
        self._unlabelled: list[str] = []
        self._folders: list[str] = []
        folders, linked = [str(part)], list[str]()
        while folders or linked:  # links last: what they lead to keeps its own name
            path = folders.pop() if folders else linked.pop(0)
            real = os.path.realpath(path)
            if path != str(part) and os.path.islink(path):
                _refuse_ancestor(path, real)
            if real in entered:
                self.again.append((path, entered[real]))
                continue
            entered[real] = path
            self._folders.append(path)
            for entry in sorted(_entries(path), key=lambda entry: entry.name):
                self._add(entry, folders, linked)
        # A sort of names alone would leave equal numbers (09, 9) to the file system.
        self.images.sort(key=_natural)

    def _add(self, entry: os.DirEntry[str], folders: list[str], linked: list[str]) -> None:
        suffix = _suffix(entry.name)
        link = entry.is_symlink()
        if _hidden(entry.name):
            self.hidden += 1
        elif _is_folder(entry):
            if len(self._folders) == 1 and _word(entry.name) in UNLABELLED:
                self._unlabelled.append(entry.name)
            else:
                (linked if link else folders).append(entry.path)
        elif suffix in SUFFIXES:
            self.images.append(entry.path)
            self.links += [entry.path] * link
        else:
            self.others[suffix or "no suffix"] += 1

    @cached_property
    def levels(self) -> dict[str, tuple[str, ...]]:
        """The folders that hold images, and their names from the part on."""
        every = dict.fromkeys(map(os.path.dirname, self.images))
        return {path: Path(path).relative_to(self.part).parts for path in every}

    @cached_property
    def _top(self) -> int:
        """Where the names of the folders begin to differ, as far as all have a name there."""
        common = Path(os.path.commonpath(self.levels)).relative_to(self.part).parts
        return min(len(common), *(len(names) - 1 for names in self.levels.values()))

    def class_of(self, folder: str, outer: bool) -> str:
        """Return the class of images in a folder: its name, or that of the outermost."""
        names = Path(folder).relative_to(self.part).parts
        return names[min(self._top, len(names) - 1) if outer else -1] if names else ""

    def samples(self, outer: bool) -> list[tuple[str, str]]:
        """Return (path, class) of the images, in natural order of the paths."""
        classes = {path: self.class_of(path, outer) for path in self.levels}
        return [(path, classes[os.path.dirname(path)]) for path in self.images]

    def unlabelled(self, training: _Tree, outer: bool) -> bool:
        """Return whether these images lie in no class folder, or in one that is no class."""
        found, known = ({t.class_of(path, outer) for path in t.levels} for t in (self, training))
        return len(self.levels) == 1 and not found & known

    def check(self) -> None:
        """Refuse a part without images, and images outside class folders."""
        if not self.images:
            raise DataError(
                f"{self.part}: no png or jpg image in it or below, nor another type that is read",
                "wanted a folder for each class, such as cat/1.png and dog/1.png; types: "
                + " ".join(sorted(SUFFIXES)),
            )
        for path in self.images if () in self.levels.values() else ():
            if os.path.dirname(path) == str(self.part):
                raise DataError(
                    f"{path}: lies in no class folder",
                    f"move it into a folder named after its class: "
                    f"{self.part / 'cat' / Path(path).name}",
                )

    def tell(self, origin: Origin) -> None:
        """Tell what was left out."""
        if self.hidden:
            origin.leave_out(self.hidden, "hidden or system files and folders")
        if self.others:
            kinds = _listed(f"{suffix} {count}" for suffix, count in self.others.most_common())
            origin.leave_out(self.others.total(), f"files of other types ({kinds})")
        full = set[str]()
        for path in self.levels:
            while path not in full:
                full.add(path)
                path = os.path.dirname(path)
        empty = sorted(
            os.path.relpath(path, self.part)
            for path in self._folders
            if path not in full and os.path.dirname(path) in full
        )
        if empty:
            origin.warnings.append(f"{self.part}: no images in {_listed(empty)}: not a class")
        if self._unlabelled:
            origin.warnings.append(
                f"{self.part}: {_listed(self._unlabelled)} taken as unlabelled and left out"
            )


def _entries(path: str | Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(path) as entries:
            return list(entries)
    except OSError as error:
        raise ResourceError(
            f"{path}: cannot be read: {error.strerror or error}", "check its permissions"
        ) from error


def _hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in SYSTEM


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def _word(name: str) -> str:
    """Return the word that a folder's name consists of, beside such as ``set``."""
    words = set(re.findall("[a-z]+", name.lower())) - AROUND
    return words.pop() if len(words) == 1 else ""


def _refuse_ancestor(path: str, real: str) -> None:
    above = os.path.realpath(os.path.dirname(path))
    if Path(real) in (Path(above), *Path(above).parents):
        raise DataError(
            f"{path}: is a link to {real}, a folder above it, so that images would repeat",
            "remove the link",
        )


# Classes -----------------------------------------------------------------------------------------


def _outer(tree: _Tree, chosen: str) -> bool:
    """Return whether the outermost folders name the classes; refuse what reads both ways."""
    tree.check()
    inner, outer = (
        sorted({tree.class_of(path, way) for path in tree.levels}, key=_natural)
        for way in (False, True)
    )
    levels = set(tree.levels.values())
    repeated = len(inner) < len(levels) and len(outer) > 1
    nested = any(names[:n] in levels for names in levels for n in range(1, len(names)))
    if not chosen and (repeated or nested) and inner != outer:
        words = {_word(name) for names in levels for name in names}
        if words & set(TRAINING) and words & set(EVALUATION):
            raise DataError(
                f"{tree.part}: training and evaluation folders lie further below",
                "name the folder that they lie in: task.root=...",
            )
        raise DataError(
            f"{tree.part}: the classes are either {_listed(outer)} (the outer folders) or "
            f"{_listed(inner)} (those that the images lie in)",
            "choose with task.class_folder=outer or task.class_folder=inner",
        )
    return chosen == "outer"


def _count_once(trees: Sequence[_Tree], outer: bool, origin: Origin) -> None:
    """Leave out what links show again; refuse images that would lie in two classes or parts."""
    where = {path: real for tree in trees for real, path in tree.entered.items()}
    again = [pair for tree in trees for pair in tree.again]
    if any(tree.links for tree in trees):
        first: dict[str, str] = {}
        for tree in trees:
            links = set(tree.links)
            for path in sorted(tree.images, key=links.__contains__):
                real = os.path.join(where[os.path.dirname(path)], os.path.basename(path))
                known = first.setdefault(os.path.realpath(path) if path in links else real, path)
                if known != path:
                    again.append((path, known))
    for path, known in again:
        mine, other = (_class_at(trees, at, outer) for at in (path, known))
        if mine != other:
            raise DataError(
                f"{path}: is {known} again, in another class or part",
                "an image belongs to one class and one part: remove the link",
            )
    if again:
        dropped = {path for path, _ in again}
        for tree in trees:
            tree.images = [path for path in tree.images if path not in dropped]
        origin.leave_out(len(again), "links to what is read already")


def _class_at(trees: Sequence[_Tree], path: str, outer: bool) -> tuple[Path, str]:
    """Return the part and the class of a folder, or of a file in one."""
    tree = next(tree for tree in trees if Path(path).is_relative_to(tree.part))
    return tree.part, tree.class_of(path if os.path.isdir(path) else os.path.dirname(path), outer)


def _agreed_classes(
    samples: Sequence[Sequence[tuple[str, str]]], folders: Sequence[Path]
) -> list[str]:
    """Return the class names by label; all folders must have the same."""
    found = [{name for _, name in part} for part in samples]
    for has, lacks in permutations(range(len(found)), 2):
        for name in sorted(found[has] - found[lacks], key=_natural):
            raise DataError(
                f"{folders[lacks]}: no images of class {name!r}, which {folders[has]} has",
                "both folders need the same class folders, each with images",
            )
    return sorted(found[0], key=_natural)


def _natural(name: str) -> tuple[list[int | str], str]:
    return natural_key(name), name


def _listed(names: Iterable[str]) -> str:
    every = [shown(name) for name in names]
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more


def _pictures(samples: Sequence[tuple[str, str]], class_names: Sequence[str]) -> Pictures:
    label = {name: i for i, name in enumerate(class_names)}
    return Pictures(
        open=lambda number: open_file(samples[number][0]),
        name=lambda number: samples[number][0],
        labels=np.array([label[name] for _, name in samples], dtype=np.int64),
    )
