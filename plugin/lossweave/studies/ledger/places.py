"""Places at which the same trainings gave the same numbers, and so count as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lossweave.studies.ledger.result import Result

__all__ = ["counted_as_one", "places_as_one"]


def places_as_one(results: Sequence[Result]) -> dict[str, str]:
    """By place, the one that it counts as: a place of its own, or an earlier one.

    Most commits change no digit of a study's trainings. Where some of them were done at two
    places, and all of these gave the same scores at both, the others make pairs across them, too.
    One that diverged has no score to tell.

    Args:
        results: of one study.

    Example:
        >>> from dataclasses import replace
        >>> from lossweave.studies.ledger.result import Code
        >>> one = Result("s", "c.py", "h", "Sum", 0, scores={"test": 0.25}, code=Code("1", "a"))
        >>> again = replace(one, code=Code("1", "b"))
        >>> list(places_as_one([one, again]).values()) == [one.place] * 2
        True
        >>> other = replace(again, scores={"test": 0.5})
        >>> list(places_as_one([one, other]).values()) == [one.place, other.place]
        True
    """
    found: dict[str, str] = {}
    scores: dict[str, dict[str, object]] = {}
    for place in dict.fromkeys(result.place for result in results):
        here = [r for r in results if r.place == place and "diverged" not in r.details]
        own = {r.training: dict(r.scores) for r in here}
        found[place] = place
        for earlier, known in scores.items():
            twice = [(scored, known[key]) for key, scored in own.items() if key in known]
            if twice and all(one == other for one, other in twice):
                found[place] = earlier
                break
        kept = scores.setdefault(found[place], {})
        scores[found[place]] = {**own, **kept}
    return found


def counted_as_one(results: Sequence[Result]) -> str:
    """What of that a reader should know, in a sentence; '' where every place stands by itself.

    Args:
        results: of one study.
    """
    one = places_as_one(results)
    if all(place == other for place, other in one.items()):
        return ""
    count = Counter((result.training, one[result.place]) for result in results)
    twice = {training for (training, _), times in count.items() if times > 1}
    return (
        f"{len(twice)} of the trainings were done at two of these places and gave the same numbers "
        "at both, so these count as one and make pairs."
    )
