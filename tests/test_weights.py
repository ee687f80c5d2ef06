"""Encoders out of a results folder: the evaluated network, from a checkpoint or, in half precision, from a file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import harness
from harness import components, weights
from harness.config.errors import SpecError
from harness.config.experiment import load_scale
from harness.config.grid import assign, normalised
from harness.methods.base import Method
from harness.store.results import RunFolder, Store, StoreError
from harness.train import checkpoint

ROOT = Path(__file__).resolve().parents[1]
IMAGES = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
ENCODERS = {"micro": {"micro": {"stem": 8, "widths": [8, 16], "depth": 1}}, "resnet": "resnet18", "vit": "vit"}


def trained(results: Path, encoder: object, method: object = "simclr") -> tuple[RunFolder, Method]:
    """A run with made-up weights and running statistics, as a finished one leaves it."""
    tree = normalised(load_scale(ROOT / "experiments", "smoke").tree)
    assign(tree, "encoder", encoder)
    run = components.resolve(tree, seed=0)
    folder = Store(results).run(run.id)
    folder.create(run.spec())
    torch.manual_seed(1)
    made = components.build(run).build_method(images=512, classes=10).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    made.train().represent(IMAGES)  # moves the running statistics
    checkpoint.save(folder.weights, {"method": made.state_dict()})
    return folder, made.eval()


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_an_encoder_computes_what_the_run_computed(tmp_path: Path, encoder: object) -> None:
    folder, method = trained(tmp_path, encoder)
    with torch.no_grad():
        wanted = method.represent(IMAGES)
        exact = harness.encoder(folder.id[:5], tmp_path)
        weights.write(folder, Store(tmp_path).encoder(folder.id))
        folder.weights.unlink()
        half = harness.encoder(folder.id, tmp_path)
        assert not exact.training and not half.training
        assert torch.allclose(exact(IMAGES), wanted, rtol=1e-4, atol=1e-5)
        assert (half(IMAGES) - wanted).norm() < 5e-3 * wanted.norm()
        assert not torch.equal(half(IMAGES), wanted), "half precision was asked for"


def test_what_cannot_be_loaded_says_why(tmp_path: Path) -> None:
    folder, _ = trained(tmp_path, ENCODERS["micro"])
    file = Store(tmp_path).encoder(folder.id)
    with pytest.raises(SpecError):
        harness.encoder("no such run", tmp_path)
    state = checkpoint.load(folder.weights, torch.device("cpu"))["method"]
    state["encoder.bn1.running_var"] += 1e6
    checkpoint.save(folder.weights, {"method": state})
    with pytest.raises(StoreError, match="running_var"):
        weights.write(folder, file)
    folder.weights.unlink()
    with pytest.raises(StoreError, match="not here"):
        harness.encoder(folder.id, tmp_path)
    file.parent.mkdir()
    file.write_bytes(b"something else")
    with pytest.raises(StoreError, match=file.name):
        harness.encoder(folder.id, tmp_path)
    assert weights.main([folder.id, "--results", str(tmp_path), "--to", str(tmp_path)]) == 2


def test_committed_encoders_load_and_are_small() -> None:
    store = Store(ROOT / "results")
    files = sorted(store.encoders.glob("*.safetensors"))
    assert sum(file.stat().st_size for file in files) <= 8e6
    for file in files:
        with torch.no_grad():
            h = harness.encoder(file.stem, store.root)(IMAGES)
        assert torch.isfinite(h).all() and h.std() > 0


def test_importing_the_package_imports_no_torch() -> None:
    code = "import sys, harness; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
