"""Identify the platform of digests: libraries and type of machine, on which the last bits depend."""

from __future__ import annotations

import platform

import torch

from harness.store import provenance


def platform_of() -> dict[str, str]:
    """The libraries, and the type of this machine as torch sees it: processor architecture and instruction set."""
    found = {name: version for name, version in provenance.versions().items() if name != "python"}
    return found | {"machine": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"}
