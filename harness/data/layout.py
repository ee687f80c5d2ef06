"""Survey a folder of images: one folder per class, image files in it; everything else is counted as ignored.

Torch-free, so that ``python -m harness.data check`` starts at once.
"""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.config.errors import Complaint, SpecError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".webp"})
"""Of image files, in small letters; ``.JPEG`` is one too."""

NO_CLASSES = frozenset({"__MACOSX", "@eaDir", "lost+found", "$RECYCLE.BIN", "System Volume Information"})
"""Folders that archivers and storage put beside ours: copies of metadata, thumbnails, what was deleted."""


@dataclass(frozen=True)
class Layout:
    """The images of one folder ``top``: ``files[i]`` are the names in the folder of class ``classes[i]``, sorted.

    ``left_out`` counts what is no data by what it is: a suffix, or words. ``folders`` are the classes' device and
    inode numbers, by which two names of one folder are told.
    """

    top: Path
    classes: tuple[str, ...]
    files: tuple[tuple[str, ...], ...]
    left_out: Mapping[str, int]
    folders: tuple[tuple[int, int], ...]

    @property
    def remark(self) -> str:
        """One line about what was left out; empty where nothing was."""
        return f"{readable(self.top)}: ignored: {_counted(self.left_out)}" if self.left_out else ""


def survey(top: Path) -> Layout:
    """All classes and images of ``top/<class>/``, in the order of their names.

    A name with a leading dot is no data, neither of a file nor of a folder; what lies deeper than a class is none
    either. Raises :class:`SpecError` where there are no images, a class has none or cannot be listed, a name leads
    nowhere (a broken link), or two classes are one folder.
    """
    if not top.is_dir():
        raise SpecError(f"{readable(top)} is missing; expected one folder of images per class in it")
    left_out: Counter[str] = Counter()
    complaints: list[Complaint] = []
    classes, files, folders = [], [], []
    for entry in _entries(top):
        if entry.name.startswith("."):
            left_out["hidden by a leading dot"] += 1
        elif entry.name in NO_CLASSES:
            left_out[f"folder {entry.name}"] += 1
        elif not _is_folder(entry):
            left_out[f"{_kind(entry.name)} in no class"] += 1
        else:
            found = Path(entry.path).stat()
            classes.append(entry.name)
            folders.append((found.st_dev, found.st_ino))
            files.append(_images(Path(entry.path), left_out, complaints))
    if not any(files) and not complaints:
        said = f" (ignored: {_counted(left_out)})" if left_out else ""
        raise SpecError(f"{readable(top)} holds no images{said}; expected one folder of images per class in it")
    complaints += _empty(top, classes, files)
    complaints += _twice(top, classes, folders)
    if complaints:
        raise SpecError(complaints)
    return Layout(top, tuple(classes), tuple(files), left_out, tuple(folders))


def _counted(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{what} ({count})" for what, count in sorted(left_out.items()))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise SpecError(f"{readable(folder)} cannot be listed: {error.strerror}") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False


def _images(folder: Path, left_out: Counter[str], complaints: list[Complaint]) -> tuple[str, ...]:
    found = []
    for entry in _entries(folder):
        if entry.name.startswith("."):
            left_out["hidden by a leading dot"] += 1
        elif _is_folder(entry):
            left_out["folder inside a class"] += 1
        elif Path(entry.name).suffix.lower() not in SUFFIXES:
            left_out[_kind(entry.name)] += 1
        elif not _is_file(entry):  # opening a pipe would wait for ever
            what = "is a broken link" if entry.is_symlink() else "is not a regular file"
            complaints.append(Complaint("", f"{readable(entry.path)} {what}: fix or remove it"))
        else:
            found.append(entry.name)
    return tuple(found)


def _kind(name: str) -> str:
    return readable(Path(name).suffix.lower() or "without a suffix")


def _empty(top: Path, classes: Iterable[str], files: Iterable[tuple[str, ...]]) -> list[Complaint]:
    empty = [name for name, images in zip(classes, files, strict=True) if not images]
    if not empty:
        return []
    said = f"no images in the folder{'s' * (len(empty) > 1)} of {listed(empty)}"
    taken = " ".join(sorted(SUFFIXES))
    return [Complaint("", f"{readable(top)}: {said} (accepted: {taken}): add images or remove the folder")]


def _twice(top: Path, classes: list[str], folders: list[tuple[int, int]]) -> list[Complaint]:
    first: dict[tuple[int, int], str] = {}
    found = []
    for name, folder in zip(classes, folders, strict=True):
        other = first.setdefault(folder, name)
        if other is not name:
            said = f"the classes {readable(other)} and {readable(name)} are the same folder (a link): remove one"
            found.append(Complaint("", f"{readable(top)}: {said}"))
    return found


def check_sides(train: Layout, test: Layout) -> None:
    """Whether two layouts have the same classes and no folder in common. Raises :class:`SpecError`."""
    sides = ((train, test), (test, train))
    only = [(here, sorted({*here.classes} - {*there.classes})) for here, there in sides]
    said = [f"only in {here.top.name}: {listed(names)}" for here, names in only if names]
    if said:
        composed = [{unicodedata.normalize("NFC", name) for name in side.classes} for side in (train, test)]
        hint = "; the same letters, but composed in two ways (Unicode NFC and NFD): rename"
        alike = hint if composed[0] == composed[1] else ""
        top = readable(train.top.parent)
        raise SpecError(f"{top}: train and val do not have the same classes: {'; '.join(said)}{alike}")
    if shared := {*train.folders} & {*test.folders}:
        name = readable(next(name for name, one in zip(test.classes, test.folders, strict=True) if one in shared))
        raise SpecError(
            f"{readable(test.top)}: {name} is a folder of {readable(train.top)} too (a link): its test images would be "
            "those it trains on; give val images of its own"
        )


MOST_NAMED = 8


def listed(names: list[str]) -> str:
    """Some names for a message: the first eight, and how many more."""
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(map(readable, names[:MOST_NAMED])) + more


def readable(path: object) -> str:
    """A name as every terminal and log can show it: bytes that are not UTF-8, and line breaks, as escapes."""
    text = str(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
