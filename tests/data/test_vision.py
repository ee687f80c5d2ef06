"""torchvision's data sets, written to disk as torchvision wants them: one of image folders, one of arrays."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import functional as tvf

from harness.config.errors import SpecError
from harness.config.registry import dataset
from harness.data import vision
from harness.data.augment import Crop, Flip
from harness.data.sources import SOURCES
from harness.data.views import Views, batches
from harness.data.vision import Torchvision, labels_of


def picture(number: int, width: int = 20, height: int = 14) -> Image.Image:
    noise = torch.rand(3, height, width, generator=torch.Generator().manual_seed(number))
    return tvf.to_pil_image((255 * noise).byte())


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Country211 (three splits of two classes) and MNIST (arrays)."""
    root = tmp_path_factory.mktemp("torchvision")
    for start, split in enumerate(("train", "valid", "test")):
        for label in ("a", "b"):
            (folder := root / "country211" / split / label).mkdir(parents=True)
            for i in range(3):
                picture(100 * start + 10 * ord(label) + i).save(folder / f"{i}.png")
    (raw := root / "MNIST" / "raw").mkdir(parents=True)
    for name, count in (("train", 7), ("t10k", 5)):
        digits = torch.arange(count * 28 * 28).remainder(251).byte()
        images = struct.pack(">HBBIII", 0, 8, 3, count, 28, 28) + digits.numpy().tobytes()
        labels = struct.pack(">HBBI", 0, 8, 1, count) + bytes(range(count))
        for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
            (raw / f"{name}-{kind}-ubyte").write_bytes(content)
            (raw / f"{name}-{kind}-ubyte.gz").write_bytes(gzip.compress(content))
    return root


def first(split: vision.Files) -> Tensor:
    ((images,),) = split.stream([torch.arange(len(split))], (), seed=0, epoch=0, workers=1)
    return images


def test_splits_labels_and_pixels_are_torchvisions(root: Path) -> None:
    data = Torchvision(name="country211", image_size=8, resize=10).load(root)
    assert data.classes == ("a", "b") and data.validation is not None
    assert [split.labels.tolist() for split in (data.train, data.validation, data.test)] == [[0, 0, 0, 1, 1, 1]] * 3
    expected = picture(100 * 2 + 10 * ord("b") + 1)
    expected = tvf.center_crop(tvf.resize(expected, 10, tvf.InterpolationMode.BICUBIC), [8, 8])
    assert torch.equal(first(data.test)[4], tvf.pil_to_tensor(expected))  # type: ignore[arg-type]


def test_arrays_become_rgb_pictures(root: Path) -> None:
    data = Torchvision(name="mnist", image_size=28).load(root)
    assert data.validation is None and len(data.train) == 7 and len(data.classes) == 10
    images = first(data.test)  # type: ignore[arg-type]
    assert images.shape == (5, 3, 28, 28) and torch.equal(images[0, 0], images[0, 2])
    assert images[0, 0].flatten().tolist() == [i % 251 for i in range(28 * 28)]


@pytest.mark.parametrize(
    "changed", [{"name": "mnist"}, {"image_size": 9}, {"resize": 12}, {"interpolation": "bilinear"}]
)
def test_every_field_changes_the_images(root: Path, changed: dict[str, object]) -> None:
    base: dict[str, object] = {"name": "country211", "image_size": 8}
    before, after = (first(dataset.build({"torchvision": one}).load(root).test) for one in (base, base | changed))
    assert before.shape != after.shape or not torch.equal(before, after)


def test_training_images_are_cropped_at_random_from_the_whole_picture(root: Path) -> None:
    train = Torchvision(name="country211", image_size=8).load(root).train
    views = Views(both=(Crop(), Flip()), count=1)
    one, again, other = (
        next(batches(train, views, batch_size=6, seed=0, epoch=epoch, device="cpu")).views[0] for epoch in (0, 0, 1)
    )
    assert one.shape == (6, 3, 8, 8) and torch.equal(one, again) and not torch.equal(one, other)


def test_parts_and_unions_keep_images_with_their_labels(root: Path) -> None:
    data = Torchvision(name="country211", image_size=8).load(root)
    both = data.train.joined(data.test)
    some = both.part(torch.tensor([7, 3, 0]))
    assert some.labels.tolist() == [0, 1, 0]
    expected = torch.cat([first(data.train), first(data.test)])[[7, 3, 0]]  # type: ignore[arg-type]
    assert torch.equal(first(some), expected)  # type: ignore[arg-type]


def test_what_is_not_there_says_how_to_fetch_it(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"flowers102 is not in .*python -m harness.data flowers102"):
        Torchvision(name="flowers102").load(tmp_path)
    with pytest.raises(SpecError, match="torchvision has no Birdsnap"):
        Torchvision(name="birdsnap").load(tmp_path)
    with pytest.raises(SpecError, match="did you mean 'flowers102'"):
        dataset.build({"torchvision": {"name": "flowers"}})


@pytest.mark.parametrize("name", [name for name, source in SOURCES.items() if source.cls])
def test_every_source_is_a_class_that_takes_its_arguments(name: str, tmp_path: Path) -> None:
    """A wrong argument would be a TypeError; a data set that is not there is a SpecError."""
    source = SOURCES[name]
    for arguments in (source.train, source.validation, source.test):
        if arguments is not None:
            with pytest.raises(SpecError, match=f"python -m harness.data {name}"):
                vision.opened(name, tmp_path, arguments)


def test_whatever_torchvision_raises_of_damage_names_the_data_set(root: Path, tmp_path: Path) -> None:
    """Its readers assert, count beyond the end and more; none of that is a fault of the code that asked."""
    (raw := tmp_path / "MNIST" / "raw").mkdir(parents=True)
    for file in (root / "MNIST" / "raw").iterdir():
        (raw / file.name).write_bytes(file.read_bytes())
    sound = (raw / "train-images-idx3-ubyte").read_bytes()
    for harmed in (b"", sound[:3], sound[:10], sound[:40], b"\xff" * 40, sound[:8] + b"\x7f" + sound[9:]):
        (raw / "train-images-idx3-ubyte").write_bytes(harmed)
        with pytest.raises(SpecError, match="mnist "):
            Torchvision(name="mnist", image_size=28).load(tmp_path)


def test_annotations_that_are_no_xml_name_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "1.xml").write_text("<annotation>")

    class Voc:
        annotations = (tmp_path / "1.xml",)

    monkeypatch.setattr(vision, "opened", lambda *_: Voc())
    with pytest.raises(SpecError, match=r"voc2007 in .* has labels that cannot be read .*no element found"):
        Torchvision(name="voc2007").load(tmp_path)


def test_voc_marks_difficult_objects(tmp_path: Path) -> None:
    def thing(name: str, difficult: int) -> str:
        return f"<object><name>{name}</name><difficult>{difficult}</difficult></object>"

    path = tmp_path / "1.xml"
    path.write_text(f"<annotation>{thing('cat', 1)}{thing('dog', 1)}{thing('dog', 0)}{thing('car', 0)}</annotation>")

    class Voc:
        annotations = (path,)

    (labels,) = labels_of(Voc()).tolist()
    assert {name: label for name, label in zip(vision.VOC, labels, strict=True) if label} == {
        "car": 1,
        "cat": -1,
        "dog": 1,
    }
