"""A search from its first training to its verdict, and a full grid with searches of it."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from lossweave.errors import LossweaveError
from lossweave.studies.ledger.book import Book, LedgerOptions
from lossweave.studies.ledger.result import Result
from lossweave.studies.tune.child import child_settings
from lossweave.studies.tune.confirm import confirmed
from lossweave.studies.tune.findings import find
from lossweave.studies.tune.framework import framework_for
from lossweave.studies.tune.keys import Keys
from lossweave.studies.tune.report import summary
from lossweave.studies.tune.results import alike, kept, report
from lossweave.studies.tune.search import Search, Tuning
from lossweave.studies.tune.space import Point
from lossweave.studies.tune.trainings import STUDY, train_rungs, wanted

__all__ = ["Ending", "run_grid", "run_tune"]


@dataclass(frozen=True)
class Ending:
    """What happens when the budget is spent.

    Args:
        into: where the weights go; see :func:`~lossweave.studies.tune.child.child_settings`.
        confirm: how many seeds the tuned and the untuned config are trained with.
        join: whether this worker leaves that to another one.
    """

    into: Literal["auto", "stock", "combiner"] = "auto"
    confirm: int = 3
    join: bool = False


def run_tune(tuning: Tuning, keys: Keys, ending: Ending, resume: bool = False) -> None:
    """Search, write the tuned config, confirm it, and report.

    Args:
        tuning: the search.
        keys: of the user's config, which weigh its terms.
        ending: what happens then.
        resume: whether to go on with a search, or to join it.

    Raises:
        LossweaveError: wrong input, before anything is trained, or a training that failed.
    """
    home = Path(tuning.work_dir)
    own = tuning.space.point(tuning.first)
    child_settings(keys, tuning.space.terms, own, ending.into)  # refused before anything is trained
    search = Search(tuning, resume)
    race = search.run()
    if ending.join:
        print("the search is through; another worker confirms and reports")
        return
    if race.best is None:
        raise LossweaveError(f"{home}: no training was finished")
    kept(search.book, search, race)
    point = search.point(race.best)
    stock = child_settings(keys, tuning.space.terms, point, ending.into)
    head = _head(tuning, point, keys, stock is not None)
    setting = tuning.setting
    write = framework_for(setting.config).write_child
    tuned = write(home, setting.config, setting.options, point, stock, head)
    seeds = [setting.seed + number for number in range(1, ending.confirm + 1)]
    if seeds:
        bar = tqdm(seeds, desc="confirm", unit="seed")
        for seed in bar:
            confirmed(setting, tuned, point, [seed], home, search.book)
    _reported(search.book, tuning, home)
    print(f"\n{tuned}\n{home / 'tune.md'}")


def run_grid(tuning: Tuning, replays: Sequence[Tuning]) -> None:
    """Train every point of the grid, looked at at every rung, and replay searches of it.

    Args:
        tuning: names the grid: ``space.steps`` is its spacing.
        replays: searches that are answered from the grid's trainings.

    Raises:
        LossweaveError: a training failed.
    """
    home = Path(tuning.work_dir)
    home.mkdir(parents=True, exist_ok=True)
    book = Book(tuning.ledger, home)
    for point in tqdm(tuning.space.grid(), desc="grid", unit="training"):
        folder = home / "points" / f"{'_'.join(f'{r:g}' for r in point.ratios)}_lr{point.rate:g}"
        train_rungs(tuning.setting, point, tuning.rungs, folder, book)
    for one in tqdm(replays, desc="replays", unit="search"):
        replay(one, book)
    _reported(book, tuning, home)
    print(f"\n{home / 'tune.md'}")


def replay(tuning: Tuning, book: Book) -> Result:
    """A search whose trainings are all in a ledger: what it would have ended with.

    Args:
        tuning: a search that is restricted to the grid.
        book: the ledger, to which the search's result is added.
    """
    with tempfile.TemporaryDirectory() as scratch:
        here = replace(tuning, work_dir=scratch, ledger=LedgerOptions(tuple(book.paths)))
        search = Search(here)
        race = search.run(progress=False)
        return kept(book, search, race, replayed=True)


def _reported(book: Book, tuning: Tuning, home: Path) -> None:
    read = book.reread().reading.results
    own = kept_hash(tuning)
    results = [one for one in read if one.study == STUDY and alike(one) == own]
    report(results, str(home))
    print(f"\n{summary(find(results))}")


def kept_hash(tuning: Tuning) -> str:
    """What the results of this search's report have in common."""
    return alike(wanted(tuning.setting, tuning.space.point(tuning.first), tuning.setting.length))


def _head(tuning: Tuning, point: Point, keys: Keys, stock: bool) -> list[str]:
    setting = tuning.setting
    terms = zip(tuning.space.terms, point.weights, strict=True)
    lines = [
        f"{setting.config} with the weights and the learning rate that tools/tune.py found.",
        f"Weights: {', '.join(f'{term} {weight:g}' for term, weight in terms)}; {point.rate:g}.",
    ]
    if stock:
        lines.append("They are the config's own keys: it takes no plugin to train it.")
        if keys.scaled is not None:
            lines.append(
                f"{keys.scaled} has no key and keeps its weight: all weights are divided by what "
                "was found for it, the decay too, and the rate is multiplied by it."
            )
    elif keys.problems:
        lines.append(f"Weighed by Sum(weights): {next(iter(keys.problems.values()))}.")
    return [*lines, "", f"Command: {setting.asked}"]
