"""In a process of its own: what malloc was told cannot be taken back."""

from __future__ import annotations

import subprocess
import sys

import pytest

FAULTS = """
import resource
import torch
from harness.train.memory import keep_memory

torch.set_num_threads(1)
if {keep}:
    assert keep_memory()

def step():
    blocks = [torch.zeros(10_000_000) for _ in range(2)]  # 40 MB each

for _ in range(5):  # until the pieces lie as they will
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep: bool) -> int:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS.format(keep=keep)], capture_output=True, text=True, check=True, timeout=120
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's malloc is what is told")
def test_later_steps_touch_no_new_pages() -> None:
    usual = faults(keep=False)  # 5 steps of 80 MB in pages of 4 KiB are 100 000
    assert usual > 5_000 and faults(keep=True) < usual / 4  # a block or so may still find its place
