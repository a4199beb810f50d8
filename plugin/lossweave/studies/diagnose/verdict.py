"""What is said of a training, in words, by the thresholds of ``thresholds.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite

from lossweave.studies.diagnose.findings import OTHERS, Pair, Stage, Term, find, static_weights
from lossweave.studies.diagnose.record import Record
from lossweave.studies.diagnose.thresholds import (
    BINDS,
    CONFLICT,
    EVEN,
    FAR,
    FEW,
    HELD_OFTEN,
)

__all__ = ["Diagnosis", "Verdict", "answers", "diagnose", "verdicts_of", "weights_text"]


@dataclass(frozen=True)
class Verdict:
    """An answer to one question.

    Args:
        topic: 'scale', 'conflict', 'noise', 'mend', 'optimizer', 'clipping' or 'matters'.
        answer: in a word or two, of a few that the topic has.
        words: the answer with its numbers.
    """

    topic: str
    answer: str
    words: str


@dataclass(frozen=True)
class Diagnosis:
    """All that is said of a training.

    Args:
        stages: the findings.
        verdicts: by stage.
        weights: the static weights over all looks.
    """

    stages: list[Stage]
    verdicts: dict[str, list[Verdict]]
    weights: dict[str, float]


def diagnose(record: Record) -> Diagnosis:
    """What the looks say, in numbers and in words."""
    stages = find(record)
    tables = [look.shared if any(map(any, look.shared)) else look.whole for look in record.looks]
    return Diagnosis(
        stages=stages,
        verdicts={stage.name: verdicts_of(record, stage) for stage in stages},
        weights=static_weights(record.terms, tables),
    )


def verdicts_of(record: Record, stage: Stage) -> list[Verdict]:
    """The answers for one stage."""
    if stage.looks < FEW:
        return [
            Verdict(
                "matters",
                "too few looks",
                f"Too few looks ({stage.looks}) to say anything; take {FEW} or more (--iterations, "
                "--interval).",
            )
        ]
    scale, conflict, noise = _scale(stage), _conflict(stage), _noise(stage)
    mend = _mend(stage, noise)
    found = [scale, conflict, noise, mend, _optimizer(record, stage), _clipping(stage)]
    return [_matters(scale, conflict, mend, noise, stage), *found]


def weights_text(weights: Mapping[str, float]) -> str:
    """Weights as they are typed, in the order of the terms.

    Example:
        >>> weights_text({"cls": 0.66667, "loc": 2.0})
        '[0.667,2]'
    """
    return "[" + ",".join(f"{weight:.3g}" for weight in weights.values()) + "]"


# ---------------------------------------------------------------------------- the questions


def _named(stage: Stage) -> list[Term]:
    return [term for term in stage.terms if term.name != OTHERS]


def _pairs(stage: Stage) -> list[Pair]:
    return [pair for pair in stage.pairs if OTHERS not in pair.terms]


def _apart(pair: Pair) -> float:
    """How far apart two lengths are; 1 where one of them is not there."""
    return max(pair.ratio, 1 / pair.ratio) if pair.ratio > 0 and isfinite(pair.ratio) else 1.0


def _scale(stage: Stage) -> Verdict:
    pairs = _pairs(stage)
    if not pairs:
        return Verdict("scale", "one term", "There is one term alone, so nothing to weigh.")
    pair = max(pairs, key=_apart)
    longer, shorter = pair.terms if pair.ratio >= 1 else pair.terms[::-1]
    apart = _apart(pair)
    known = (
        f"it takes {pair.batches:g} {'batch' if pair.batches == 1 else 'batches'} to know which "
        "is longer"
        if isfinite(pair.batches)
        else "which is longer is not known"
    )
    words = (
        f"where they meet, the gradient of {longer} is {apart:.3g} times as long as that of "
        f"{shorter} ({known})"
    )
    if apart >= FAR:
        return Verdict(
            "scale", "out of scale",
            f"The terms are out of scale: {words}. {shorter} decides next to nothing of what they "
            "share; weigh it.",
        )  # fmt: skip
    if apart >= EVEN:
        return Verdict("scale", "uneven", f"The terms are uneven: {words}.")
    return Verdict("scale", "even", f"The terms are of even scale: {words}.")


def _conflict(stage: Stage) -> Verdict:
    met = [(pair.cosine, pair) for pair in _pairs(stage) if pair.cosine is not None]
    if not met:
        return Verdict(
            "conflict", "nothing shared", "The terms share no parameter, so they cannot conflict."
        )
    cosine, pair = min(met, key=lambda one: one[0])
    names = f"{pair.terms[0]} and {pair.terms[1]}"
    numbers = f"mean cosine {cosine:.2f} ± {pair.spread:.2f}, below 0 in {pair.negative:.0%}"
    if cosine > -CONFLICT:
        low = all(abs(value) < CONFLICT for value, _ in met)
        answer = "orthogonal" if low else "aligned"
        how = "nearly orthogonal" if abs(cosine) < CONFLICT else "aligned"
        where = _worst(pair)
        return Verdict(
            "conflict", answer,
            f"The gradients do not conflict: those of {names} are {how} ({numbers} of the "
            f"batches){where}.",
        )  # fmt: skip
    mean = ""
    if pair.expected is not None and pair.expected > -CONFLICT:
        mean = (
            f" Their mean gradients do not (cosine {pair.expected:.2f}): the conflict is one of "
            "batches, and larger batches make it smaller."
        )
    return Verdict(
        "conflict", "conflict",
        f"The gradients of {names} conflict ({numbers} of the batches){_worst(pair)}.{mean}",
    )  # fmt: skip


def _worst(pair: Pair) -> str:
    if not pair.parts:
        return ""
    part = min(pair.parts, key=lambda name: pair.parts[name])
    value = pair.parts[part]
    return f"; lowest at {part} ({value:.2f})"


def _noise(stage: Stage) -> Verdict:
    noisy = [term for term in _named(stage) if term.told is False]
    parts = ", ".join(f"{term.name} {term.signal:.1%}" for term in _named(stage))
    needing = [
        f"{ceil(term.enough)} for {term.name}" for term in _named(stage)
        if term.told and term.enough > 1
    ]  # fmt: skip
    more = (
        f" Batches in one until there is as much signal as noise: {', '.join(needing)}."
        if needing
        else ""
    )
    if not noisy and any(term.told is None for term in _named(stage)):
        return Verdict(
            "noise", "not measured",
            "Signal and noise are told apart on batches after the last iteration, on which the "
            "weights stand still; there were none here.",
        )  # fmt: skip
    if not noisy:
        return Verdict(
            "noise", "signal",
            "The batches tell the terms' directions. Of a batch's gradient, in squared length, the "
            f"mean gradient is: {parts}.{more}",
        )  # fmt: skip
    names = " and ".join(term.name for term in noisy)
    return Verdict(
        "noise", f"noise: {names}",
        f"The gradient of {names} is not told from noise by {stage.batches} batches (of a batch's "
        f"gradient, in squared length, the mean gradient is: {parts}). Its cosines and its length "
        "say little; larger batches or momentum may do more than a combiner.",
    )  # fmt: skip


def _mend(stage: Stage, noise: Verdict) -> Verdict:
    terms = _named(stage)
    plain = max(terms, key=lambda term: term.held)
    balanced = max(terms, key=lambda term: term.held_balanced)
    if plain.held < HELD_OFTEN:
        least = min(terms, key=lambda term: term.gain)
        return Verdict(
            "mend", "nothing",
            "A gradient method has nothing to mend: the plain sum's step lowers every term "
            f"(least of all {least.name}, by {least.gain:.0%} of what a step of its own would).",
        )  # fmt: skip
    what = (
        f"In {plain.held:.0%} of the batches the plain sum's step holds {plain.name} back (lowers "
        "it by less than a tenth of what a step of its own would, or raises it)"
    )
    if balanced.held_balanced < HELD_OFTEN:
        return Verdict(
            "mend", "weights",
            f"{what}; with balanced weights in {balanced.held_balanced:.0%}. Weights mend that, "
            "and leave a gradient method nothing.",
        )  # fmt: skip
    if noise.answer.startswith("noise") and balanced.told is False:
        return Verdict(
            "mend", "noise",
            f"{what}, and with balanced weights it is {balanced.name} in "
            f"{balanced.held_balanced:.0%}; but that gradient is noise, and what a gradient method "
            "would mend is not there on average.",
        )  # fmt: skip
    return Verdict(
        "mend", "gradients",
        f"{what}, and with balanced weights {balanced.name} in {balanced.held_balanced:.0%}: a "
        "gradient method (PCGrad, UPGrad, CAGrad) has something to mend. Compare it with the tuned "
        "sum.",
    )  # fmt: skip


def _optimizer(record: Record, stage: Stage) -> Verdict:
    sgd = ", ".join(f"{term.name} {term.sgd:.0%}" for term in stage.terms)
    adam = ", ".join(f"{term.name} {term.adam:.0%}" for term in stage.terms)
    raised = [term for term in _named(stage) if term.raised > 0]
    which = " and ".join(f"{term.name} in {term.raised:.0%}" for term in raised)
    rose = f"raised {which} of the looks" if raised else "lowered every term"
    rose = f" The steps that were made {rose}, on the batch that they were made from."
    if record.adaptive:
        scale = (
            " The losses' overall scale changes nothing (it divides by the gradient's size)"
            + (f", but for {stage.tiny:.0%} of the parameters." if stage.tiny > 0.01 else ".")
        )
        words = f"Shares of the {record.optimizer} step: {adam} (under SGD {sgd}).{scale}{rose}"
        return Verdict("optimizer", "adaptive", words)
    words = f"Shares of the {record.optimizer} step: {sgd} (under Adam {adam}).{rose}"
    return Verdict("optimizer", "plain", words)


def _clipping(stage: Stage) -> Verdict:
    length = f"the gradient is {stage.norm:.3g} long on average"
    if stage.clipping == 0:
        return Verdict("clipping", "never", f"Nothing is clipped; {length}.")
    numbers = f"in {stage.clipping:.0%} of the updates, leaving {stage.left:.0%}; {length}"
    if stage.clipping < BINDS:
        return Verdict("clipping", "sometimes", f"Clipping binds at times ({numbers}).")
    return Verdict(
        "clipping", "binds",
        f"Clipping binds ({numbers}): it sets the steps' length, so weights change their ratio "
        "alone, and weights that make the gradient shorter make the steps no shorter.",
    )  # fmt: skip


def _matters(
    scale: Verdict, conflict: Verdict, mend: Verdict, noise: Verdict, stage: Stage
) -> Verdict:
    weights = weights_text(stage.weights)
    if mend.answer == "gradients":
        return Verdict(
            "matters", "yes",
            f"It may matter how these losses are combined. Try the weights {weights} first, then a "
            "gradient method beside them.",
        )  # fmt: skip
    if scale.answer == "out of scale" or mend.answer == "weights":
        return Verdict(
            "matters", "weights", f"The weights are likely to matter: try {weights}, and tune them."
        )
    if noise.answer.startswith("noise") and conflict.answer == "conflict":
        return Verdict(
            "matters", "noise",
            "Noise hides what the terms do to each other: a larger batch, or more looks, before "
            "any other combiner.",
        )  # fmt: skip
    if scale.answer == "uneven":
        return Verdict(
            "matters", "perhaps",
            f"The weights may matter a little: {weights} would balance the gradients. The learning "
            "rate is likely to matter more.",
        )  # fmt: skip
    return Verdict(
        "matters", "no",
        "None of this is likely to matter: the terms pull about equally and not against each "
        "other. Tune the learning rate of the plain sum instead.",
    )  # fmt: skip


def answers(verdicts: Sequence[Verdict]) -> dict[str, str]:
    """The answers alone, by topic."""
    return {verdict.topic: verdict.answer for verdict in verdicts}
