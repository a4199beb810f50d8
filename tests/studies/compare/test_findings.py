"""Which sum is the tuned one, and what the intervals say."""

from dataclasses import replace

import pytest
from helpers.comparison_scores import plain_scores
from scipy import stats

from lossweave.studies.compare.findings import counted, find, summarize
from lossweave.studies.runs.method import Method


def test_the_sum_is_tuned_on_validation_and_judged_on_test() -> None:
    tuned, rows = summarize(plain_scores())
    assert tuned == "Sum weights=[1,2]"
    by_method = {row["method"]: row for row in rows}
    assert by_method["DWA"]["difference"] == pytest.approx(0.03)
    # Paired: what a seed does to all methods cancels.
    assert by_method["DWA"]["half_width"] == pytest.approx(stats.t.ppf(0.975, 2) * 0.001 / 3**0.5)
    assert by_method["Sum"]["half_width"] == pytest.approx(0, abs=1e-9)
    assert by_method["DWA"]["seeds"] == 3


def test_a_repeated_training_with_the_same_numbers_makes_two_places_one() -> None:
    here = [replace(score, place="before") for score in plain_scores()]
    sums = [score for score in here if score.method != "DWA"]
    moved = [replace(s, place="after") for s in here if s.method == "DWA"]
    unpaired = {r["method"]: r["unpaired"] for r in summarize([*sums, *moved])[1]}
    assert unpaired["DWA"] == [0, 1, 2] and unpaired["Sum"] == []

    again = replace(sums[0], method="Sum weights=[1,2]", val=0.55, test=0.50, place="after")
    rows = {r["method"]: r for r in summarize([*sums, *moved, again])[1]}
    assert rows["DWA"]["unpaired"] == []
    assert rows["DWA"]["differences"] == pytest.approx([0.031, 0.029, 0.03])

    other = replace(again, test=0.501)  # one digit of one training: the code changed something
    rows = {r["method"]: r for r in summarize([*sums, *moved, other])[1]}
    assert rows["DWA"]["unpaired"] == [1, 2]


def test_a_repeated_training_counts_once_in_tables_and_pictures() -> None:
    here = [replace(score, place="before") for score in plain_scores()]
    tuned, rows = summarize(here)
    again = [replace(here[0], place="after"), replace(here[1], place="after", test=0.9)]
    found = find([Method.parse(s.method) for s in here[:1]], [*here, *again], {})
    assert [row["test"] for row in found.rows] == [row["test"] for row in rows]
    assert list(found.compared) == here == list(counted([*here, *again], tuned))
    assert len(found.scores) == len(here) + 2


def test_the_tuned_sum_is_chosen_by_the_seeds_that_all_sums_have() -> None:
    few = [s for s in plain_scores() if s.seed == 0 or s.method != "Sum weights=[1,2]"]
    lucky = [replace(s, val=0.9) if s.method == "Sum" and s.seed else s for s in few]
    assert summarize(lucky)[0] == "Sum weights=[1,2]"
