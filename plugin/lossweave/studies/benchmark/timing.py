"""Paired timing: what one thing costs beside another, on a machine that is not quiet."""

import ctypes
import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch

__all__ = [
    "PairedTimes",
    "interleaved",
    "keep_freed_memory",
    "paired_round",
    "quiet",
    "seconds_of",
]

Step = Callable[[], float]


@dataclass(frozen=True)
class PairedTimes:
    """Times of A and B, measured in turn.

    Args:
        a: seconds per round of A, the reference.
        b: seconds per round of B, each measured beside the entry of ``a`` at its place.

    Example:
        >>> times = PairedTimes((1.0, 2.0, 4.0), (1.5, 2.0, 5.0))
        >>> times.ratio, times.difference
        (1.25, 0.5)
    """

    a: tuple[float, ...]
    b: tuple[float, ...]

    @property
    def ratios(self) -> np.ndarray:
        """b / a, per round."""
        return np.asarray(self.b) / np.asarray(self.a)

    @property
    def differences(self) -> np.ndarray:
        """b - a in seconds, per round."""
        return np.asarray(self.b) - np.asarray(self.a)

    @property
    def ratio(self) -> float:
        """Median of the paired ratios."""
        return float(np.median(self.ratios))

    @property
    def difference(self) -> float:
        """Median of the paired differences, in seconds."""
        return float(np.median(self.differences))

    def quantiles(self, *points: float) -> tuple[float, ...]:
        """Quantiles of the paired ratios; 0 is the smallest, 1 the largest."""
        return tuple(float(q) for q in np.quantile(self.ratios, points))

    def interval(
        self, of: str = "ratios", level: float = 0.95, draws: int = 2000
    ) -> tuple[float, float]:
        """Bootstrap interval of the median, by percentiles; the same for the same times.

        Args:
            of: 'ratios' or 'differences'.
            level: its coverage.
            draws: resamplings.
        """
        values = self.ratios if of == "ratios" else self.differences
        generator = np.random.default_rng(0)
        drawn = generator.choice(values, size=(draws, len(values)), replace=True)
        low, high = np.quantile(np.median(drawn, axis=1), [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


def paired_round(a: Step, b: Step, flip: bool) -> tuple[float, float]:
    """Mean seconds of A and of B in one round A B B A, or B A A B if flipped.

    In either order a drift that is linear in time hits both alike.

    Args:
        a: runs one step and returns its seconds.
        b: likewise.
        flip: whether B begins.
    """
    order = (b, a, a, b) if flip else (a, b, b, a)
    seconds = [step() for step in order]
    outer, inner = (seconds[0] + seconds[3]) / 2, (seconds[1] + seconds[2]) / 2
    return (inner, outer) if flip else (outer, inner)


def interleaved(
    reference: Step,
    others: dict[str, Step],
    rounds: int,
    seed: int = 0,
    tick: Callable[[], object] = lambda: None,
) -> dict[str, PairedTimes]:
    """Time every step against the reference, in turn and in a new random order each round.

    Args:
        reference: runs one step of the reference and returns its seconds.
        others: by name, likewise.
        rounds: rounds per name.
        seed: of the orders.
        tick: called after every pairing, for a progress bar.

    Example:
        >>> times = interleaved(lambda: 2.0, {"slower": lambda: 3.0}, rounds=4)
        >>> times["slower"].ratio
        1.5
    """
    generator = np.random.default_rng(seed)
    names = list(others)
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    with quiet():
        for number in range(rounds):
            for place in generator.permutation(len(names)):
                name = names[place]
                measured[name].append(paired_round(reference, others[name], number % 2 == 1))
                tick()
    return {name: _paired(pairs) for name, pairs in measured.items()}


def _paired(pairs: Sequence[tuple[float, float]]) -> PairedTimes:
    return PairedTimes(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Python's garbage collector out of the times."""
    was = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def keep_freed_memory() -> bool:
    """Have the C library keep what is freed for later, as torch does with an accelerator's memory.

    Else steps give pages back and fault them in again, which costs up to a tenth of a step on a
    CPU and hits whichever step comes next, so what is timed depends on what ran before it.

    Returns:
        Whether it could be asked for: glibc has the call, others may not.
    """
    never_map, never_trim = (-4, 0), (-1, -1)  # M_MMAP_MAX, M_TRIM_THRESHOLD
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(set_option(*never_map) and set_option(*never_trim))


def seconds_of(step: Callable[[], object], wait: Callable[[], object]) -> float:
    """Seconds that a step takes.

    Where one thread on a CPU does it all, they are the process's own, which nothing else on the
    machine makes longer.

    Args:
        step: what is timed.
        wait: waits for the device, before and after.
    """
    alone = torch.get_num_threads() == 1 and not torch.cuda.is_available()
    clock = time.process_time if alone else time.perf_counter
    wait()
    begin = clock()
    step()
    wait()
    return clock() - begin
