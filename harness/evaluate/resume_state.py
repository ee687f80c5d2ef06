"""How a long evaluation survives being cut off: it says where it is, and an interrupted one goes on from there.

Linear evaluation with crops takes 90 passes over ImageNet, a transfer by fine-tuning 56 trainings. On a cluster that
preempts, what can only start over never ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

ResumeState = dict[str, Any]
"""Tensors, numbers, strings, lists and dicts: what a checkpoint holds."""


def keep_nothing(make: Callable[[], ResumeState], done: float) -> None:
    """Of an evaluation that nobody interrupts."""


def go_on() -> None:
    """The check of an evaluation that nothing stops."""


@dataclass
class ResumePoint:
    """What is left of an earlier attempt, and where to leave what a later one needs.

    ``held`` is that state, if there is any. ``keep`` is called between two steps, with a function that makes the state
    from which the next step follows, and the share of the work that is ``done``; it may write the state down, and it
    raises where the process was asked to stop. ``check`` is called in the middle of a step, where nothing can be
    written but what was last offered to ``keep``: what that function reads must not change until the next ``keep``.
    """

    held: ResumeState | None = None
    keep: Callable[[Callable[[], ResumeState], float], None] = keep_nothing
    check: Callable[[], None] = go_on

    def take(self) -> ResumeState | None:
        """What an earlier attempt left, once: a second training of the same evaluation begins at its beginning."""
        held, self.held = self.held, None
        return held

    def part(self, held: ResumeState | None, first: float, last: float, **around: Any) -> ResumePoint:
        """For one of several trainings, from the share ``first`` to ``last`` of the work.

        ``held`` is what this training left; ``around`` is kept beside its state, which is called ``part``.
        """

        def keep(make: Callable[[], ResumeState], done: float) -> None:
            self.keep(lambda: {**around, "part": make()}, first + (last - first) * done)

        return ResumePoint(held, keep, self.check)
