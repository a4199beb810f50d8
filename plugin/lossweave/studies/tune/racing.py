"""Which trainings go on: paired differences to the best so far, and how sure they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import hypot, sqrt

import numpy as np

from lossweave.studies.tune.scores import paired_difference

__all__ = ["SURE", "Course", "Race", "Verdict"]

#: A training is stopped where its difference, and so many standard errors, stay below zero.
SURE = 1.0
#: Finished trainings beside the best that it takes to know what a rung foretells.
_ENOUGH = 3
#: Until then, the part of what the best still gained after a rung by which another may catch up.
_CATCHING_UP = 0.25


@dataclass(frozen=True)
class Course:
    """What is known of one point.

    Args:
        number: of its first trial.
        params: the point's parameters.
        scores: by rung, the score that is maximised.
        left_out: by rung, the score without each group of pictures.
    """

    number: int
    params: Mapping[str, float]
    scores: Mapping[int, float]
    left_out: Mapping[int, Sequence[float]] = field(default_factory=dict)

    @property
    def reached(self) -> int:
        """The last rung; 0 before the first."""
        return max(self.scores, default=0)


@dataclass(frozen=True)
class Verdict:
    """Whether a training goes on.

    Args:
        stop: whether it ends here.
        difference: its score minus the best so far's, at this rung.
        error: the difference's standard error.
    """

    stop: bool
    difference: float
    error: float


class Race:
    """The trainings of a search, from which it is read what goes on.

    Args:
        courses: what is known of every point.
        rungs: ascending; the last is the end of a training.
    """

    def __init__(self, courses: Sequence[Course], rungs: Sequence[int]) -> None:
        self.courses = tuple(courses)
        self.rungs = tuple(rungs)
        self.finished = tuple(c for c in courses if c.reached == rungs[-1])

    @property
    def best(self) -> Course | None:
        """The finished training with the best score; of equal ones the first."""
        end = self.rungs[-1]
        return max(self.finished, key=lambda c: (c.scores[end], -c.number), default=None)

    def verdict(self, course: Course, rung: int) -> Verdict:
        r"""Whether a training that stands at a rung is to be stopped.

        Its difference to the best so far is taken at the same rung, on the same pictures, with the
        same draws and first weights. The error :math:`\sqrt{s^2 + t^2}` holds what the choice of
        pictures leaves open, :math:`s` (a jackknife), and how far differences at the end may be
        from those at this rung, :math:`t` (:meth:`spread`).

        Args:
            course: the training.
            rung: where it stands.
        """
        best = self.best
        if best is None or best.params == course.params or rung not in best.scores:
            return Verdict(False, 0.0, 0.0)
        difference = course.scores[rung] - best.scores[rung]
        pictures = 0.0
        if course.left_out.get(rung) and best.left_out.get(rung):
            _, pictures = paired_difference(course.left_out[rung], best.left_out[rung])
        error = hypot(pictures, self.spread(rung))
        return Verdict(difference + SURE * error < 0, difference, error)

    def spread(self, rung: int) -> float:
        """How far differences to the best at the end may be from those at a rung.

        Their root mean square over the finished trainings; until three beside the best are
        finished, a quarter of what the best itself still gained from the rung to its end. A
        larger learning rate is behind at first under the full schedule: without this, what it
        would have caught up by was not counted.
        """
        best, end = self.best, self.rungs[-1]
        if best is None or rung == end or rung not in best.scores:
            return 0.0
        moved = [
            (c.scores[end] - best.scores[end]) - (c.scores[rung] - best.scores[rung])
            for c in self.finished
            if c is not best and rung in c.scores
        ]
        if len(moved) < _ENOUGH:
            return _CATCHING_UP * max(best.scores[end] - best.scores[rung], 0.0)
        return sqrt(float(np.mean(np.square(moved))))

    def foretold(self, course: Course) -> float | None:
        """What a training's score at the end is taken to be by whoever chooses the next point.

        The best so far's, and the paired difference to it at the last rung that it reached.
        """
        if course.reached == self.rungs[-1]:
            return course.scores[self.rungs[-1]]
        best = self.best
        if best is None or not course.reached:
            return None
        rung = course.reached
        if rung not in best.scores:
            return None
        return best.scores[self.rungs[-1]] + course.scores[rung] - best.scores[rung]

    def waiting(self) -> list[Course]:
        """Stopped trainings, the most promising first."""
        stopped = [c for c in self.courses if 0 < c.reached < self.rungs[-1]]
        return sorted(stopped, key=lambda c: (-(self.foretold(c) or 0.0), c.number))

    def spent(self) -> float:
        """What the rungs that were reached cost, in full trainings."""
        return sum(c.reached for c in self.courses) / self.rungs[-1]
