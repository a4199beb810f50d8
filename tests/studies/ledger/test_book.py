"""A study and its ledgers: only what is lacking is done."""

from pathlib import Path

import pytest
from helpers.ledger_results import OTHER_CODE, OTHER_MACHINE, result

from lossweave.studies.ledger.book import Book, LedgerOptions
from lossweave.studies.ledger.facts import facts_of
from lossweave.studies.ledger.ledger import append, read
from lossweave.studies.ledger.result import Result


def _trained(wanted: Result) -> Result:
    return result(wanted.method, wanted.seed, 0.7)


def _never(wanted: Result) -> Result:
    raise AssertionError(f"{wanted.label} is there already")


def test_what_the_ledger_has_is_not_done_again(tmp_path: Path) -> None:
    book = Book(LedgerOptions(), tmp_path)
    wanted = result(scores={})
    assert book.obtain(wanted, _trained).scores["test"] == 0.7
    again = Book(LedgerOptions(), tmp_path)
    assert again.obtain(wanted, _never).scores["test"] == 0.7
    assert len(read(tmp_path / "ledger.jsonl").results) == 1


def test_what_another_process_did_meanwhile_is_not_done_again(tmp_path: Path) -> None:
    book = Book(LedgerOptions(), tmp_path)
    append(tmp_path / "ledger.jsonl", result(test=0.6))
    assert book.obtain(result(scores={}), _never).scores["test"] == 0.6


def test_all_ledgers_are_read_and_the_first_is_written_to(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine.jsonl", tmp_path / "theirs.jsonl"
    append(theirs, result("DWA", test=0.4))
    book = Book(LedgerOptions((str(mine), str(theirs))), tmp_path)
    assert book.obtain(result("DWA", scores={}), _never).scores["test"] == 0.4
    book.obtain(result("Sum", scores={}), _trained)
    assert [r.method for r in read(mine).results] == ["Sum"]
    assert len(read(theirs).results) == 1


@pytest.mark.parametrize("place", [OTHER_CODE, OTHER_MACHINE])
def test_results_of_another_place_count_unless_here_is_asked(tmp_path: Path, place: dict) -> None:
    append(tmp_path / "ledger.jsonl", result(test=0.3, **place))
    wanted = result(scores={})
    assert Book(LedgerOptions(), tmp_path).obtain(wanted, _never).place != wanted.place
    here = Book(LedgerOptions(here=True), tmp_path)
    assert here.lacking([wanted]) == [wanted]
    assert here.obtain(wanted, _trained).place == wanted.place
    # With both there, that of this place counts.
    assert Book(LedgerOptions(), tmp_path).obtain(wanted, _never).scores["test"] == 0.7


def test_what_else_is_known_of_a_training_comes_along(tmp_path: Path) -> None:
    here, there = result(test=0.5), result(test=0.4, **OTHER_CODE)
    append(tmp_path / "ledger.jsonl", there, here, result("DWA", **OTHER_CODE))
    assert Book(LedgerOptions(), tmp_path).all_of([here]) == [here, there]
    assert Book(LedgerOptions(here=True), tmp_path).all_of([here]) == [here]


def test_remarks_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append(tmp_path / "ledger.jsonl", result(), result(test=0.1))
    Book(LedgerOptions(), tmp_path)
    assert "OTHER NUMBERS" in capsys.readouterr().out


def test_a_plan_says_what_is_lacking_and_how_long_it_may_take(tmp_path: Path) -> None:
    append(tmp_path / "ledger.jsonl", result("Sum", 0), result("DWA", 0, seconds={"training": 240}))
    wanted = [result(m, s, scores={}) for m in ("Sum", "DWA", "FAMO") for s in (0, 1)]
    text = Book(LedgerOptions(), tmp_path).plan_text(wanted)
    assert text.splitlines() == [
        f"2 of 6 are in {tmp_path / 'ledger.jsonl'}",
        "lacking: Sum, seed 1 (about 2.0 minutes)",
        "lacking: DWA, seed 1 (about 4.0 minutes)",
        "lacking: FAMO, seed 0 (about 3.0 minutes)",
        "lacking: FAMO, seed 1 (about 3.0 minutes)",
        "4 trainings, about 12.0 minutes one after the other",
    ]
    elsewhere = [result("Sum", 5, config_hash="other")]
    assert "time not known" in Book(LedgerOptions(), tmp_path).plan_text(elsewhere)


def test_facts_are_of_the_day_and_machine_of_training() -> None:
    facts = facts_of([result(date="2026-11-20"), result(seed=1, date="2026-11-21")], seeds=(0, 1))
    assert facts["date"] == "2026-11-21" and facts["seeds"] == (0, 1)
    assert facts["machine"]["cpu"] == "A CPU" and facts["code"] == "lossweave 0.1.0 at aaa"
    assert facts["command"] == "python tools/compare.py --methods Sum DWA"
