"""A study's ledgers while it runs: what is there, what is lacking, where a result goes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from lossweave.studies.ledger.ledger import append, read
from lossweave.studies.ledger.result import Result

__all__ = ["LEDGER_FILE", "Book", "LedgerOptions"]

#: A ledger's name where none is given.
LEDGER_FILE = "ledger.jsonl"


@dataclass(frozen=True)
class LedgerOptions:
    """Where a study's results are.

    Args:
        paths: ledgers; results are read from all of them and added to the first. Without any,
            it is ``ledger.jsonl`` in the study's work directory.
        here: whether only results of this code on this machine count as trained.
        plan: whether to say what is lacking, and train nothing.
    """

    paths: tuple[str, ...] = ()
    here: bool = False
    plan: bool = False


class Book:
    """The ledgers of one study.

    Args:
        options: where they are.
        work_dir: the study's.
    """

    def __init__(self, options: LedgerOptions, work_dir: str | Path) -> None:
        self.options = options
        self.paths = options.paths or (str(Path(work_dir) / LEDGER_FILE),)
        self.reading = read(*self.paths)
        for remark in self.reading.remarks:
            print(remark)

    def found(self, wanted: Result) -> Result | None:
        """The result of a training: of this code and machine if there is one, else the first.

        Args:
            wanted: what is asked for, with today's code and machine, without what came of it.
        """
        known = self.reading.of(wanted.training)
        same = [result for result in known if result.place == wanted.place]
        if same or self.options.here:
            return same[0] if same else None
        return known[0] if known else None

    def all_of(self, results: Sequence[Result]) -> list[Result]:
        """These results, and what else is known of the same trainings, from other places.

        With them a pair may be found that is of one place. Where only this place counts, just
        the results.
        """
        if self.options.here:
            return list(results)
        keys = {result.key for result in results}
        others = [
            one
            for result in results
            for one in self.reading.of(result.training)
            if one.key not in keys
        ]
        return [*results, *others]

    def lacking(self, wanted: Sequence[Result]) -> list[Result]:
        """Those of the trainings that have to be done."""
        return [one for one in wanted if self.found(one) is None]

    def obtain(self, wanted: Result, train: Callable[[Result], Result]) -> Result:
        """The result of a training, which is done and added to the ledger where it is lacking.

        Args:
            wanted: what is asked for.
            train: fills in what came of it.
        """
        if (known := self.found(wanted)) is not None:
            return known
        if (known := self.reread().found(wanted)) is not None:  # another process may be faster
            return known
        return self.add(train(wanted))

    def reread(self) -> Book:
        """The book as it is now: other processes may have added to it."""
        self.reading = read(*self.paths)
        return self

    def add(self, result: Result) -> Result:
        """Add a result to the first ledger; the result."""
        append(self.paths[0], result)
        return result

    def plan_text(self, wanted: Sequence[Result], names: Sequence[str] = ()) -> str:
        """What is lacking, a line each, with the time that it may take.

        Args:
            wanted: the trainings.
            names: theirs, where the results' own labels do not tell them apart.
        """
        named = dict(zip((one.training for one in wanted), names, strict=False))
        lacking = self.lacking(wanted)
        lines = [f"{len(wanted) - len(lacking)} of {len(wanted)} are in {', '.join(self.paths)}"]
        total = 0.0
        for one in lacking:
            seconds = self._estimate(one)
            total += seconds or 0.0
            name = named.get(one.training, one.label)
            lines.append(f"lacking: {name} ({_minutes(seconds)})")
        if lacking:
            lines.append(f"{len(lacking)} trainings, {_minutes(total or None)} one after the other")
        return "\n".join(lines)

    def time_text(self, wanted: Sequence[Result]) -> str:
        """The time that trainings may take, for the end of a sentence; '' where it is not known."""
        known = [seconds for one in wanted if (seconds := self._estimate(one)) is not None]
        return f" ({_minutes(sum(known))} one after the other)" if known else ""

    def _estimate(self, wanted: Result) -> float | None:
        alike = [r for r in self.reading.results if r.setting == wanted.setting]
        same = [r for r in alike if r.method == wanted.method] or alike
        known = [r.seconds["training"] for r in same if r.seconds.get("training")]
        return median(known) if known else None


def _minutes(seconds: float | None) -> str:
    return "time not known" if seconds is None else f"about {seconds / 60:.1f} minutes"
