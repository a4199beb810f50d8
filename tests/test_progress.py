"""Where the training stands."""

import pytest

from lossweave.progress import Progress


def _all(count: int, **fixed: int) -> list[Progress]:
    return [Progress(iteration=t, **fixed) for t in range(count)]


def test_without_accumulation_every_iteration_is_an_update() -> None:
    for t, progress in enumerate(_all(5)):
        assert progress.update == t and progress.first_of_update and progress.last_of_update


def test_a_window_opens_once_and_closes_once() -> None:
    found = _all(6, accumulation=3)
    assert [p.update for p in found] == [0, 0, 0, 1, 1, 1]
    assert [p.first_of_update for p in found] == [True, False, False] * 2
    assert [p.last_of_update for p in found] == [False, False, True] * 2


def test_the_last_window_may_be_shorter() -> None:
    found = _all(8, accumulation=3, max_iterations=8)
    assert [p.last_of_update for p in found] == [False, False, True] * 2 + [False, True]


@pytest.mark.parametrize("accumulation", [1, 2, 3, 4, 7])
def test_every_update_has_one_first_and_one_last(accumulation: int) -> None:
    found = _all(23, accumulation=accumulation, max_iterations=23)
    updates = {p.update for p in found}
    assert [p.update for p in found if p.first_of_update] == sorted(updates)
    assert [p.update for p in found if p.last_of_update] == sorted(updates)


def test_an_update_belongs_to_the_epoch_it_began_in() -> None:
    found = _all(12, accumulation=4, iterations_per_epoch=6)
    assert [p.epoch for p in found] == [0] * 8 + [1] * 4
    assert [found[0].epoch_of(update) for update in range(4)] == [0, 0, 1, 2]


def test_epochs_of_unknown_length_are_all_the_first() -> None:
    assert {p.epoch for p in _all(50)} == {0}
    assert Progress(9, iterations_per_epoch=0).epoch == 0
