"""What a sweep shows while it works: a live table on a terminal, one line an event everywhere else."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from harness.store.causes import Cause
from harness.store.results import RunFolder, StoreError, read_json

SUCCESS = (Cause.DONE, Cause.DIVERGED)
STYLE = {Cause.DONE: "green", Cause.DIVERGED: "yellow", Cause.ELSEWHERE: "cyan"}
PLAIN_TICK_S = 60.0
SILENT_S = 600.0
"""A run that has said nothing of its progress for so long may hang: its heartbeat goes on, which is a thread's."""

COLUMNS = ("run", "what", "stage", "epoch", "images/s", "left")
WHAT, RIGHT = COLUMNS.index("what"), COLUMNS.index("epoch")
GAP = 2
"""Of the live table, and spaces between its columns."""


class Watch:
    """Counts, estimated time left, and both ways of showing them. Use as a context manager.

    ``labels`` names the runs for people (``targeted [crop, color], seed 0``); ``seconds`` is the planned time of one.
    """

    def __init__(self, console: Console, total: int, jobs: int, seconds: float, labels: dict[str, str]) -> None:
        self.console, self.total, self.jobs, self.labels = console, total, jobs, labels
        self.planned = seconds
        self.counts: dict[Cause, int] = {}
        self.began = self.spoke = time.monotonic()
        self.starts: dict[str, float] = {}
        self.lasted: list[float] = []
        self.live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> Watch:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.live:
            self.live.stop()

    # --- what the pool tells

    def started(self, folder: RunFolder) -> None:
        self.starts[folder.id] = time.monotonic()
        if not self.live:
            self._say(f"start       {folder.id}  {self.labels.get(folder.id, '')}")

    def ended(self, folder: RunFolder, cause: Cause, detail: str) -> None:
        self.counts[cause] = self.counts.get(cause, 0) + 1
        line = f"{cause.value:11} {folder.id}  {self.labels.get(folder.id, '')}"
        if folder.id in self.starts:  # one that was cancelled before its turn took no time
            lasted = time.monotonic() - self.starts[folder.id]
            line += f"  {clock(lasted)}"
            if cause in SUCCESS:
                self.lasted.append(lasted)
        self._say(f"{line}  {detail}" if detail else line, STYLE.get(cause, "red"))

    def held(self, count: int, detail: str) -> None:
        self._say(f"Three runs failed with the same error, so the other {count} were not started: {detail}", "bold red")

    def note(self, text: str) -> None:
        self._say(text, "yellow")

    def tick(self, running: Sequence[RunFolder]) -> None:
        if self.live:
            self.live.update(self._picture(running))
        elif running and time.monotonic() - self.spoke > PLAIN_TICK_S:
            lines = [f"{folder.id} {' '.join(progress(folder)[:3])}" for folder in running]
            self._say(f"{self._summary(running)}; " + "; ".join(lines))

    # --- how it looks

    def _say(self, line: str, style: str = "") -> None:
        self.spoke = time.monotonic()
        target = self.live.console if self.live else self.console
        target.print(Text(f"{time.strftime('%H:%M:%S')}  {line}", style=style), soft_wrap=True)

    def _over(self) -> int:
        return sum(self.counts.values())

    def _summary(self, running: Sequence[RunFolder]) -> str:
        good = sum(self.counts.get(cause, 0) for cause in SUCCESS)
        bad = sum(count for cause, count in self.counts.items() if cause.failed)
        parts = [f"{good} of {self.total} done", f"{len(running)} running", f"{bad} failed"]
        if cut := self._over() - good - bad:
            parts.append(f"{cut} cut off or elsewhere")
        return ", ".join([*parts, f"ETA {clock(self.eta(len(running)))}"])

    def eta(self, running: int) -> float:
        """Seconds until the last run ends, from this sweep's own runs as soon as one is through."""
        each = sum(self.lasted) / len(self.lasted) if self.lasted else self.planned
        now = time.monotonic()
        open_ = self.total - self._over() - running
        under_way = (
            [max(0.0, each - (now - began)) for began in list(self.starts.values())[-running:]] if running else []
        )
        return (open_ * each + sum(under_way)) / max(1, min(self.jobs, open_ + running))

    def _picture(self, running: Sequence[RunFolder]) -> Group:
        bar = Table.grid()  # a bar by itself ends no line
        bar.add_row(ProgressBar(total=max(1, self.total), completed=self._over(), width=40))
        rows = [(folder.id, self.labels.get(folder.id, ""), *progress(folder)) for folder in running]
        table = Table(box=None, pad_edge=False, header_style="dim")
        wide = [max(len(row[column]) for row in [COLUMNS, *rows]) for column in range(len(COLUMNS))]
        room = self.console.width - sum(wide) + wide[WHAT] - GAP * (len(COLUMNS) - 1)
        for column, name in enumerate(COLUMNS):  # on a narrow terminal only "what" gives way, and last of all the rest
            kept = min(wide[column], max(room, len(name))) if column == WHAT else wide[column]
            table.add_column(name, justify="left" if column < RIGHT else "right", no_wrap=True, width=kept)
        for row in rows:
            table.add_row(*map(Text, row))
        return Group(Text(self._summary(running)), bar, table)


def progress(folder: RunFolder) -> tuple[str, str, str, str]:
    """Stage, epoch, images/s and time left of a run, from its ``progress.json``."""
    told: dict[str, Any] = {}
    with suppress(StoreError):
        told = read_json(folder.progress) or {}
    epoch = f"{told['epoch']}/{told['epochs']}" if "epochs" in told else ""
    rate = f"{told['images_per_second']:,.0f}" if "images_per_second" in told else ""
    left = clock(told["eta_seconds"]) if "eta_seconds" in told else ""
    stage, silent = str(told.get("stage", "starting")), time.time() - told.get("time", time.time())
    return stage + (f", silent for {clock(silent)}" if silent > SILENT_S else ""), epoch, rate, left


def say(console: Console, text: str, style: str = "") -> None:
    """One line, never broken: logs are searched for it. Markup in names and messages is not interpreted."""
    console.print(Text(text, style=style), soft_wrap=True)


def many(count: int, noun: str, plural: str = "s") -> str:
    """``1 run``, ``2 runs``."""
    return f"{count:,} {noun}{'' if count == 1 else plural}"


def were(count: int, noun: str) -> str:
    """``1 run was``, ``2 runs were``."""
    return f"{many(count, noun)} {'was' if count == 1 else 'were'}"


def clock(seconds: float) -> str:
    """``42 s``, ``3 min``, ``1 h 20 min``, ``2 d 3 h``."""
    if seconds < 99.5:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"
