"""What of a folder is data: held against a generator that knows what it put there."""

from __future__ import annotations

import os
import random
import unicodedata
from pathlib import Path

import pytest

from harness.config.errors import SpecError
from harness.data import folder
from harness.data.layout import NO_CLASSES, SUFFIXES, Layout, check_sides, readable, survey

OTHER = (".txt", ".db", ".gif", ".tif", ".npy", ".part", "")
HIDDEN = (".DS_Store", "._000.png", ".ipynb_checkpoints", ".hidden.jpg", "..png")


def scattered(top: Path, seed: int) -> tuple[dict[str, list[str]], int]:
    """Classes with their images, and how many entries beside them are no data."""
    luck = random.Random(seed)
    images: dict[str, list[str]] = {}
    others = 0
    for number in range(luck.randint(1, 5)):
        name = luck.choice(("c{}", "Klasse {}", "é{}", "{}", "train{}", "c{}.png")).format(number)
        (top / name).mkdir(parents=True)
        images[name] = []
        for i in range(luck.randint(1, 6)):
            suffix = luck.choice(sorted(SUFFIXES))
            file = f"{luck.choice(('', 'a b', 'ü', '#', '%20'))}{i}{luck.choice((suffix, suffix.upper()))}"
            images[name].append(file)
            (top / name / file).touch()
        for i in range(luck.randint(0, 4)):
            what = luck.choice(("hidden", "other", "folder", "hidden folder", "loop"))
            place = top / name
            if what == "hidden":
                (place / luck.choice(HIDDEN)).with_name(f".{i}{luck.choice(HIDDEN)}").touch()
            elif what == "other":
                (place / f"other{i}{luck.choice(OTHER)}").touch()
            elif what == "loop":
                (place / f"loop{i}").symlink_to("..")
            else:
                below = place / f"{'.' * (what == 'hidden folder')}below{i}{luck.choice(('', '.png'))}"
                below.mkdir()
                (below / "deep.png").touch()
            others += 1
    for name in luck.sample(sorted(NO_CLASSES), luck.randint(0, 2)) + luck.sample(HIDDEN, luck.randint(0, 3)):
        (top / name).mkdir()
        (top / name / "000.png").touch()
        others += 1
    for name in luck.sample(("list.txt", "README", "stray.png", "Thumbs.db"), luck.randint(0, 3)):
        (top / name).touch()
        others += 1
    return {name: sorted(files) for name, files in sorted(images.items())}, others


@pytest.mark.parametrize("seed", range(40))
def test_images_are_data_and_all_the_rest_is_counted(tmp_path: Path, seed: int) -> None:
    images, others = scattered(tmp_path, seed)
    found = survey(tmp_path)
    assert dict(zip(found.classes, map(list, found.files), strict=True)) == images
    assert sum(found.left_out.values()) == others and bool(found.remark) is bool(others)
    listing = folder.listed(found)
    assert [path.relative_to(tmp_path).as_posix() for path in listing.paths if isinstance(path, Path)] == [
        f"{name}/{file}" for name, files in images.items() for file in files
    ]
    assert [listing.classes[label] for label in listing.labels] == [n for n, files in images.items() for _ in files]
    assert listing.remarks == ((found.remark,) if others else ())


def test_what_is_left_out_is_said_by_suffix(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name in ("0.png", "1.JPG", "notes.txt", "more.TXT", "raw", ".DS_Store", "._0.png"):
        (tmp_path / "a" / name).touch()
    said = survey(tmp_path).remark
    assert said.endswith("ignored: .txt (2), hidden by a leading dot (2), without a suffix (1)")


def made(top: Path, *names: str) -> Path:
    for name in names:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).touch()
    return top


def test_a_class_without_images_is_named_with_what_lies_there(tmp_path: Path) -> None:
    made(tmp_path, "a/0.png", "b/0.tif", "c/below/0.png")
    with pytest.raises(SpecError, match="no images in the folders of b, c"):
        survey(tmp_path)
    with pytest.raises(SpecError, match=r"holds no images \(ignored: \.png in no class \(1\)\)"):
        survey(made(tmp_path / "flat", "0.png"))


def test_names_that_lead_nowhere_or_would_wait_for_ever_are_refused(tmp_path: Path) -> None:
    made(tmp_path, "a/0.png")
    (tmp_path / "a" / "1.png").symlink_to("gone.png")
    (tmp_path / "a" / "2.png").symlink_to("2.png")
    os.mkfifo(tmp_path / "a" / "3.png")
    with pytest.raises(SpecError) as caught:
        survey(tmp_path)
    assert [str(one).partition("/a/")[2].split(":")[0] for one in caught.value.complaints] == [
        "1.png is a broken link",
        "2.png is a broken link",
        "3.png is not a regular file",
    ]


def test_one_folder_under_two_names_is_no_second_class(tmp_path: Path) -> None:
    made(tmp_path, "a/0.png")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(SpecError, match=r"classes a and b are the same folder"):
        survey(tmp_path)


def sides(top: Path) -> tuple[Layout, Layout]:
    return survey(top / "train"), survey(top / "val")


def test_a_class_on_one_side_only_is_named(tmp_path: Path) -> None:
    made(tmp_path, "train/a/0.png", "train/b/0.png", "val/a/0.png", "val/c/0.png")
    with pytest.raises(SpecError, match="do not have the same classes: only in train: b; only in val: c"):
        check_sides(*sides(tmp_path))


def test_letters_composed_in_two_ways_are_told(tmp_path: Path) -> None:
    """Two names that look alike on every screen, as a copy by way of another system makes them."""
    one, other = (unicodedata.normalize(form, "é") for form in ("NFC", "NFD"))
    made(tmp_path, f"train/{one}/0.png", f"val/{other}/0.png")
    with pytest.raises(SpecError, match="the same letters, but composed in two ways"):
        check_sides(*sides(tmp_path))


@pytest.mark.parametrize("link", ["val", "val/a"])
def test_test_images_are_not_those_that_are_trained_on(tmp_path: Path, link: str) -> None:
    made(tmp_path, "train/a/0.png", "train/b/0.png")
    if link == "val":
        (tmp_path / "val").symlink_to("train")
    else:
        made(tmp_path, "val/b/0.png")
        (tmp_path / "val" / "a").symlink_to("../train/a")
    with pytest.raises(SpecError, match=r"a folder of .*train too"):
        check_sides(*sides(tmp_path))


def test_names_that_no_terminal_can_show_are_escaped() -> None:
    assert readable("a\udcff\n\x1b[31mé") == "a\\xff\\n\\x1b[31mé"
