"""Places at which what was trained twice came out the same."""

from dataclasses import replace

from helpers.ledger_results import OTHER_CODE, OTHER_MACHINE, result

from lossweave.studies.ledger.places import counted_as_one, places_as_one


def test_a_repeated_training_tells_whether_two_places_are_one() -> None:
    here, there, elsewhere = (result(**where) for where in ({}, OTHER_CODE, OTHER_MACHINE))
    changed = replace(elsewhere, scores={**elsewhere.scores, "test": 0.4})
    results = [here, there, changed, result("DWA", 1, **OTHER_CODE)]
    assert places_as_one(results) == {
        here.place: here.place, there.place: here.place, changed.place: changed.place
    }  # fmt: skip
    assert counted_as_one(results).startswith("1 of the trainings were done at two")


def test_one_that_differs_or_none_that_was_repeated_keeps_places_apart() -> None:
    here, there = result(), result("DWA", **OTHER_CODE)
    assert places_as_one([here, there])[there.place] == there.place
    assert counted_as_one([here, there]) == ""
    again = [result(**OTHER_CODE), result("DWA", test=0.4)]
    assert places_as_one([here, there, *again])[there.place] == there.place


def test_what_diverged_at_both_tells_nothing() -> None:
    lost = dict(test=0.0, details={"diverged": "loss_cls is nan"})
    here, there = result(**lost), result(**lost, **OTHER_CODE)
    assert places_as_one([here, there])[there.place] == there.place


def test_evidence_is_handed_on_from_place_to_place() -> None:
    first, second = result(), result(**OTHER_CODE)
    shared, third = result("DWA", **OTHER_CODE), result("DWA", **OTHER_MACHINE)
    found = places_as_one([first, second, shared, third])
    assert set(found.values()) == {first.place}
