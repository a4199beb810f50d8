"""Where the results of a report come from."""

from collections.abc import Iterable, Sequence
from typing import Any

from lossweave.studies.ledger.result import Result

__all__ = ["facts_of", "places_text"]


def facts_of(results: Sequence[Result], **settings: Any) -> dict[str, Any]:
    """As :func:`~lossweave.utils.provenance.provenance`, of the day and the machine of training.

    Args:
        results: those of the report; of several days, commands or machines the last one.
        settings: what else decided them.
    """
    last = sorted(results, key=lambda result: result.date)[-1]  # of one day the last one, too
    return dict(
        command=last.asked,
        **settings,
        date=last.date,
        code=last.code.label,
        machine=dict(
            cpu=last.machine.cpu,
            cores=last.machine.cores,
            torch_threads=last.machine.threads,
            accelerator=last.machine.accelerator,
            system=last.machine.system,
        ),
        versions=dict(last.versions),
    )


def places_text(found: Iterable[tuple[str, str]]) -> str:
    """What was trained where, a line a place, if it is more than one place; else ''.

    Args:
        found: of each training, its place and its label.

    Example:
        >>> places_text([("here", "Sum, seed 0"), ("here", "DWA, seed 0")])
        ''
        >>> print(places_text([("here", "Sum, seed 0"), ("there", "Sum, seed 1")]))
        - here: Sum, seed 0
        - there: Sum, seed 1
    """
    by_place: dict[str, list[str]] = {}
    for place, label in found:
        by_place.setdefault(place, []).append(label)
    if len(by_place) < 2:
        return ""
    return "\n".join(f"- {place}: {'; '.join(labels)}" for place, labels in by_place.items())
