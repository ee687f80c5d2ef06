"""What an evaluation yields: numbers by name, now and then an array for a picture; or the reason why there is none.

And what is to be known of a number: whether the probe behind it converged, whether the features behind it vary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_DIGITS = 4
"""Significant digits of an array's numbers: a figure shows no more, and its file is committed."""


@dataclass(frozen=True)
class Convergence:
    """How far the probe behind the numbers is from the optimum of what it minimises; yielded as ``convergence``.

    ``gradient`` is the norm of the objective's gradient, as a share of its norm where the fit began; ``gap`` how far
    the objective may be above its optimum, in nats per image. A gap of at most ``tolerance`` is converged. A probe
    whose problem has no single optimum (a whole network) has neither gap nor tolerance: it says how far it came.
    """

    gradient: float | None = None
    gap: float | None = None
    tolerance: float | None = None
    loss: float | None = None
    """What is left of the training loss, in nats per image."""

    @property
    def converged(self) -> bool | None:
        return None if self.gap is None or self.tolerance is None else self.gap <= self.tolerance

    def record(self) -> dict[str, Any]:
        """For the evaluation's file, rounded; without what is not known."""
        held = {"converged": self.converged, **asdict(self)}
        return {key: _rounded(value, key) for key, value in held.items() if value is not None}


@dataclass(frozen=True)
class Collapse:
    """How many of the features do not vary over the training images; yielded as ``collapsed``.

    A record of its own only where some do not. All of them: the representation has collapsed, every image looks the
    same, and the numbers beside are those of the best guess without looking.
    """

    features: int
    of: int

    def record(self) -> dict[str, Any]:
        return asdict(self) if self.features else {}


Measurements = Iterator[tuple[str, float | Tensor | Convergence | Collapse]]
"""``(name, value)``: a float goes into tables and claims, a tensor (one or two dimensions) is for a figure alone, and
``convergence`` and ``collapsed`` say what is to be known of them."""


class Unavailable(Exception):
    """This evaluation cannot be had for this run: a data set is not here, a head has not the shape it asks for.

    Neither a failure nor a result: it is recorded with its reason, shown as NOT RUN, and tried again by ``--retry``.
    """


class Divergence(FloatingPointError):
    """Something between the features and the scores is not finite. A result of that evaluation, recorded as one."""


def finite(x: Tensor, what: str) -> Tensor:
    """``x``, or :class:`Divergence` if any of it is not a number: an argmax of NaN is class 0, and no accuracy."""
    if not bool(torch.isfinite(x).all()):
        raise Divergence(f"{what} are not finite")
    return x


def recorded(measurements: Measurements) -> dict[str, Any]:
    """The part of an evaluation's file that says what was found.

    ``values`` are the numbers; ``arrays``, where there are any, nested lists rounded to four significant digits;
    ``convergence`` and ``collapsed``, where they were yielded, what is to be known of the numbers;
    ``unavailable``, beside no values, the reason why there are none; ``diverged``, beside none, is true where
    features, scores or numbers are not finite, whichever evaluation it is and wherever it is defined: what it ranks
    (:class:`Ranked`) and what it yields is looked at here.
    """
    values: dict[str, float] = {}
    arrays: dict[str, Any] = {}
    about: dict[str, Any] = {}
    try:
        with Ranked():
            for name, value in measurements:
                if isinstance(value, Convergence | Collapse):
                    about |= {name: found} if (found := value.record()) else {}
                elif isinstance(value, Tensor):
                    arrays[name] = _rounded(value.tolist(), name)
                elif not math.isfinite(value):
                    raise Divergence(f"{name} is {value}")
                else:
                    values[name] = value
    except Unavailable as reason:
        return {"values": {}, "unavailable": str(reason)}
    except FloatingPointError as infinite:
        print(f"diverged: {infinite}", flush=True)
        return {"values": {}, "diverged": True}
    return {"values": values, **({"arrays": arrays} if arrays else {}), **about}


class Ranked(TorchFunctionMode):
    """While it is entered, ranking what is not a number raises :class:`Divergence`.

    Scores become an accuracy by being ranked, and torch ranks NaN without a word: its argmax is the NaN's own place,
    so that a classifier that has diverged "predicts" class 0 for every image. Infinities are let through: masks are
    made of them.
    """

    RANKING = frozenset({"argmax", "argmin", "argsort", "kthvalue", "max", "min", "msort", "sort", "topk"})

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = args[0] if args else None
        ranks = getattr(func, "__name__", "") in self.RANKING
        # asked outside of this mode, which is left while it answers
        if ranks and isinstance(given, Tensor) and given.is_floating_point() and bool(torch.isnan(given).any()):
            raise Divergence("scores are not finite")
        return func(*args, **(kwargs or {}))


def _rounded(value: Any, name: str) -> Any:
    if isinstance(value, list):
        return [_rounded(one, name) for one in value]
    if not math.isfinite(value):
        raise Divergence(f"{name} is not finite")
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
