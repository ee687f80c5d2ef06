"""What experiments need: looked at where it would be read, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.doctor.finding import Severity
from harness.doctor.needs import check_needs
from tests.sweep.conftest import EXPERIMENTS, SMALL

SYNTHETIC = "{synthetic: {train_images: 64, test_images: 32}}"


@pytest.mark.parametrize(
    ("data", "evaluate", "levels"),
    [
        (SYNTHETIC, "[linear]", [Severity.OK, Severity.OK]),
        ("{cifar10: {}}", "[linear]", [Severity.OK, Severity.FAIL]),
        ("{image_folder: {path: pics}}", "[linear]", [Severity.OK, Severity.FAIL]),
        ("{synthetik: {}}", "[linear]", [Severity.FAIL]),
        (SYNTHETIC, "[linear, {transfer_linear: {data: {cifar10: {}}}}]", [Severity.OK, Severity.OK, Severity.WARN]),
    ],
)
def test_what_is_needed_and_not_here_is_a_fault(
    tmp_path: Path, data: str, evaluate: str, levels: list[Severity]
) -> None:
    for name in ("scales", "paper", "clusters"):
        (tmp_path / name).symlink_to(EXPERIMENTS / name)
    path = tmp_path / "small.yaml"
    path.write_text(SMALL.replace(SYNTHETIC, data).replace("[linear]", evaluate))
    found = list(check_needs([path], None, tmp_path / "data"))
    assert [one.level for one in found] == levels
    assert all(one.remedy for one in found if one.level is Severity.FAIL)


def test_a_file_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    (found,) = check_needs([tmp_path / "absent.yaml"], None, tmp_path)
    assert found.level is Severity.FAIL and "no such file" in found.seen
