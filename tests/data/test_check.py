"""``python -m harness.data check PATH``: says beforehand what a run would refuse, and nothing that it would take."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from harness.config.errors import SpecError
from harness.data.__main__ import main
from harness.data.datasets import ImageFolder
from tests.data.test_identity import pics
from tests.data.test_pictures import REFUSED, values


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, list[str]]:
    code = main(["check", *arguments])
    out, err = capsys.readouterr()
    return code, out, err.splitlines()


def test_a_sound_folder_is_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    top = pics(tmp_path / "pics")
    Image.new("L", (40, 30)).save(top / "train" / "a" / "9.png")
    (top / "val" / "a" / "notes.txt").touch()
    code, out, refused = said(capsys, str(top))
    assert code == 0 and not refused
    lines = out.splitlines()
    assert lines[:3] == [
        f"{top}/train: 2 classes, 7 images, 3 to 4 in each",
        f"{top}/val: 2 classes, 4 images, 2 in each",
        f"{top}/val: ignored: .txt (1)",
    ]
    assert lines[3] == "modes: RGB 10, L 1; pixels: 12 x 12 to 40 x 30"
    assert lines[4].startswith("all files can be used (headers of 11 files")


def test_all_that_a_run_would_refuse_is_named_and_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder := tmp_path / "classes" / "a").mkdir(parents=True)
    sound = [path for _, path, _ in values(folder)]
    bad = [folder / f"bad {number}.png" for number, _ in enumerate(REFUSED)]
    for path, (content, _) in zip(bad, REFUSED.values(), strict=True):
        path.write_bytes(content)
    code, out, refused = said(capsys, str(tmp_path / "classes"), "--decode", "--threads", "2")
    assert code == 1 and f"refused: {len(bad)}; pixels of {len(bad) + len(sound)} files" in out
    assert sorted(line.partition(".png")[0] + ".png" for line in refused) == sorted(map(str, bad))
    for remark in ("2 with several frames", "1 turned by a tag", "may be transparent", "6 of 16 bits"):
        assert remark in out
    code, _, by_header = said(capsys, str(tmp_path / "classes"))
    assert code == 1 and set(by_header) < set(refused)


def test_what_is_wrong_with_the_layout_is_said_as_the_plan_says_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    top = pics(tmp_path / "pics")
    (top / "val" / "b").rename(top / "val" / "c")
    code, _, refused = said(capsys, str(top))
    with pytest.raises(SpecError) as caught:
        ImageFolder(path="pics").load(tmp_path)
    assert code == 1 and refused == [str(caught.value)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["nowhere"], "no such folder"), ([".", "--threads", "0"], "is not a number from 1"), ([], "PATH")],
)
def test_wrong_usage_is_2(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["check", *arguments])
    assert left.value.code == 2 and words in capsys.readouterr().err
