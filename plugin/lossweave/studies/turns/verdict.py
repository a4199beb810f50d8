"""What the study of turns says, a sentence or two a question, and its rows of the table."""

from __future__ import annotations

from collections.abc import Sequence

from lossweave.studies.ledger.result import Result
from lossweave.studies.report.paired import Spread
from lossweave.studies.report.questions import Question, question_of
from lossweave.studies.turns.findings import Answers, Turns

__all__ = ["further_verdict", "half_verdict", "help_verdict", "longer_verdict", "rows_of"]

_TYPE = "optim_wrapper.optimizer.type="


def rows_of(
    turns: Turns, found: Answers, name: str, study: str, results: Sequence[Result]
) -> list[Question]:
    """The rows of the table of questions: one for each of the three, and one for further methods.

    Args:
        turns: what was asked for.
        found: what came of it.
        name: of the ledger's folder.
        study: of the page in it.
        results: of the ledger.
    """
    longest = f"turns of {max(turns.lengths)}"
    said = [
        (
            "Is taking turns, to first order, the half-weighted sum?",
            half_verdict(turns, found),
            _ap(found.half["AP"], f"turns of {min(turns.lengths)} minus the half-weighted sum"),
        ),
        (
            "Do longer turns pass a gain on?",
            longer_verdict(turns, found),
            _ap(found.longer[longest]["AP"], f"{longest} minus turns of {min(turns.lengths)}")
            if longest in found.longer
            else "-",
        ),
        (
            "Does one task's training help the other?",
            help_verdict(found),
            ", ".join(f"{term} loss {gap.text()}" for term, gap in found.alone.items())
            + " (together minus alone)",
        ),
    ]
    if found.further:
        effects = [
            _ap(found.to_sum[part]["AP"], f"{part} minus the sum") for part in found.further
        ]
        said.append(
            (
                "Does a learned or another schedule of turns do better?",
                further_verdict(turns, found),
                "; ".join(effects),
            )
        )
    under = _optimizer(turns.options)
    return [
        question_of(f"{asked}{under}", name, study, answer, effect, results)
        for asked, answer, effect in said
    ]


def half_verdict(turns: Turns, found: Answers) -> str:
    """Whether turns are the half-weighted sum: two steps, and whole trainings.

    Args:
        turns: what was asked for.
        found: what came of it.
    """
    parts = []
    power = found.power.get("one batch")
    if power is not None and power.count:
        steps = found.first_order["one batch"]
        large, small = max(steps, key=float), min(steps, key=float)
        falls = power.sign > 0
        verb = "goes to 0 with the rate" if falls else "is not shown to go to 0 with the rate"
        parts.append(
            f"{'Yes, for two' if falls else 'Two'} plain steps of one batch: the distance "
            f"between both ends {verb} (relative to the way gone "
            f"{steps[large].text(3, signed=False)} at {large}, "
            f"{steps[small].text(4, signed=False)} at {small}; as the rate to the power of "
            f"{power.text(2, signed=False)})."
        )
        if (other := found.first_order.get("new batches")) is not None:
            parts.append(
                "With a new batch for each step it stays at "
                f"{other[small].text(2, signed=False)}."
            )
    shortest = f"turns of {min(turns.lengths)}"
    beside = _beside(shortest, found.half["AP"], "the half-weighted sum")
    parts.append(f"Over a whole training {beside}.")
    return " ".join(parts)


def longer_verdict(turns: Turns, found: Answers) -> str:
    """What longer turns change, and what a turn does to the other term.

    Args:
        turns: what was asked for.
        found: what came of it.
    """
    if not found.longer:
        return "Not asked: only one length of turns was trained."
    shortest, longest = f"turns of {min(turns.lengths)}", f"turns of {max(turns.lengths)}"
    said = [_beside(part, values["AP"], shortest) for part, values in found.longer.items()]
    changes = [
        f"{term} {_moved(change)}, over its own {found.own[longest][term].text()}"
        for term, change in found.idle[longest].items()
        if change.count
    ]
    text = f"{_upper('; '.join(said))}."
    if changes:
        text += (
            f" Over a turn of {max(turns.lengths)} of the other term the logarithm of a loss: "
            f"{'; '.join(changes)}."
        )
    return text


def help_verdict(found: Answers) -> str:
    """Of every term, whether it is learned better together than alone.

    Args:
        found: what came of the study.
    """
    words = {
        -1: "is lower when both are trained: the other task helps",
        1: "is higher when both are trained: the other task is in the way",
        0: "shows no difference between both and alone",
    }
    said = [
        f"the loss of {term} on the test split "
        + (words[gap.sign] if gap.count > 1 else "has no interval with one seed")
        + f" ({gap.text(4)})"
        for term, gap in found.alone.items()
    ]
    return f"{_upper('; '.join(said))}."


def further_verdict(turns: Turns, found: Answers) -> str:
    """Of every further method, where it ends beside the sum and beside the shortest turns.

    Args:
        turns: what was asked for.
        found: what came of it.
    """
    shortest = f"turns of {min(turns.lengths)}"
    said = [
        f"{_beside(part, found.to_sum[part]['AP'], 'the sum')}, "
        f"{_beside('', values['AP'], shortest)}"
        for part, values in found.further.items()
    ]
    return f"{_upper('; '.join(said))}."


def _optimizer(options: Sequence[str]) -> str:
    named = [option.removeprefix(_TYPE) for option in options if option.startswith(_TYPE)]
    return f" (Under {named[-1]}.)" if named else ""


def _beside(part: str, gap: Spread, other: str) -> str:
    if gap.count < 2:
        return f"{part} beside {other}: AP {gap.text()}, no interval".strip()
    many = part.startswith("turns")
    verbs = {1: "end above", -1: "end below"} if many else {1: "ends above", -1: "ends below"}
    verbs[0] = f"{'are' if many else 'is'} not told apart from"
    return f"{part} {verbs[gap.sign]} {other} (AP {gap.text()})".strip()


def _moved(change: Spread) -> str:
    words = {1: "rises by", -1: "falls by", 0: "is not shown to move,"}
    return f"{words[change.sign if change.count > 1 else 0]} {change.text()}"


def _ap(gap: Spread, what: str) -> str:
    return f"{gap.text()} AP ({what})"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]
