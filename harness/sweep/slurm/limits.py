"""Ask SLURM for the limits of a site (``scontrol show``), with defaults where it does not answer."""

from __future__ import annotations

import re
import subprocess
from contextlib import suppress

PATIENCE_S = 60.0


def max_array_size() -> int:
    """The site's MaxArraySize; 1001, SLURM's default, where it cannot be learnt."""
    return max(1, _number("MaxArraySize", 1001))


def killed_within_s() -> float:
    """Seconds after SIGTERM by which a job that is cancelled is dead; generous where KillWait cannot be learnt."""
    return 2.0 * _number("KillWait", 50) + 15


def longest_minutes(partition: str | None) -> int | None:
    """MaxTime of a partition (of several between commas the longest; None is the default one); None: no limit known."""
    limits = []
    for line in _scontrol("partition", "--oneliner"):
        told = dict(word.partition("=")[::2] for word in line.split())
        if told.get("PartitionName") in partition.split(",") if partition else told.get("Default") == "YES":
            found = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):\d+", told.get("MaxTime", ""))
            if found is None:
                return None
            limits.append(int(found[1] or 0) * 1440 + int(found[2]) * 60 + int(found[3]))
    return max(limits, default=None)


def _number(wanted: str, default: int) -> int:
    with suppress(ValueError, IndexError):
        for line in _scontrol("config"):
            key, _, value = line.partition("=")
            if key.strip() == wanted:
                return int(value.split()[0])  # KillWait = 30 sec
    return default


def _scontrol(*what: str) -> list[str]:
    """The lines of ``scontrol show``; none where it does not answer."""
    with suppress(OSError, subprocess.SubprocessError):
        command = ["scontrol", "show", *what]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=PATIENCE_S, check=True
        ).stdout.splitlines()
    return []
