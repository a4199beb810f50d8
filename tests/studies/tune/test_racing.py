"""What is stopped, what goes on, and what is told to whoever chooses the next point."""

from collections.abc import Mapping

import pytest

from lossweave.studies.tune.racing import Course, Race

RUNGS = (100, 150, 200)


def _course(number: int, scores: Mapping[int, float], wobble: float = 0.0) -> Course:
    left_out = {
        rung: [value + wobble * (-1) ** (number * group) for group in range(10)]
        for rung, value in scores.items()
    }
    return Course(number, {"log2_rate": float(number)}, scores, left_out)


BEST = _course(0, {100: 0.10, 150: 0.20, 200: 0.30})
#: A quarter of what it gains after the first rung and after the second.
AFTER_100, AFTER_150 = 0.05, 0.025


def test_the_first_is_never_stopped() -> None:
    course = _course(0, {100: 0.0})
    assert not Race([course], RUNGS).verdict(course, 100).stop


@pytest.mark.parametrize(
    ("score", "stop"), [(0.174, True), (0.176, False), (0.20, False), (0.21, False)]
)
def test_a_clear_difference_decides(score: float, stop: bool) -> None:
    course = _course(1, {100: 0.1, 150: score})
    verdict = Race([BEST, course], RUNGS).verdict(course, 150)
    assert verdict.stop is stop
    assert verdict.difference == pytest.approx(score - 0.20)
    assert verdict.error == pytest.approx(AFTER_150)


def test_the_pictures_choice_is_part_of_the_error() -> None:
    course = _course(1, {100: 0.045}, wobble=0.01)
    verdict = Race([BEST, course], RUNGS).verdict(course, 100)
    pictures = 0.01 * 3.0  # of ten that alternate between +0.01 and -0.01
    assert verdict.error == pytest.approx((AFTER_100**2 + pictures**2) ** 0.5, rel=1e-3)
    sure = _course(1, {100: 0.045})
    assert not verdict.stop and Race([BEST, sure], RUNGS).verdict(sure, 100).stop


def test_what_rungs_foretold_wrongly_is_part_of_the_error() -> None:
    """Three that gained 0.03 on the best after this rung: a fourth may, too."""
    others = [_course(n, {100: 0.05, 150: 0.2, 200: 0.28}) for n in (1, 2, 3)]
    course = _course(4, {100: 0.075})
    few = Race([BEST, *others[:2], course], RUNGS)
    assert few.spread(100) == pytest.approx(AFTER_100)
    race = Race([BEST, *others, course], RUNGS)
    assert race.spread(100) == pytest.approx(0.03)
    assert race.verdict(course, 100).error == pytest.approx(0.03)
    assert not race.verdict(course, 100).stop
    late = _course(5, {100: 0.065})
    assert Race([BEST, *others, late], RUNGS).verdict(late, 100).stop


def test_the_end_is_foretold_by_the_paired_difference() -> None:
    course = _course(1, {100: 0.12, 150: 0.19})
    race = Race([BEST, course, _course(2, {})], RUNGS)
    assert race.foretold(course) == pytest.approx(0.29)  # by the last rung that it reached
    assert race.foretold(BEST) == 0.30 and race.foretold(race.courses[2]) is None
    assert [c.number for c in race.waiting()] == [1]


def test_what_is_spent_is_what_was_reached() -> None:
    race = Race([BEST, _course(1, {100: 0.1}), _course(2, {100: 0.1, 150: 0.1})], RUNGS)
    assert race.spent() == pytest.approx(1 + 0.5 + 0.75)
    assert race.best is BEST
