"""What the curves of paired trainings say, computed once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lossweave.studies.ledger.book import LedgerOptions
from lossweave.studies.ledger.places import places_as_one
from lossweave.studies.ledger.result import Result
from lossweave.studies.precision_recall.curves import IOUS, Curves
from lossweave.studies.report.paired import Spread, one_a_seed, spread

__all__ = ["PRECISIONS", "RECALLS", "Asked", "DetectorFindings", "find"]

#: Where recall and precision are read.
PRECISIONS, RECALLS = (0.9, 0.5), (0.5, 0.9)


@dataclass(frozen=True)
class Asked:
    """What the study asks for.

    Args:
        configs: detectors; the first is the reference.
        seeds: of the initial weights and of the order of the data.
        method: the combiner of all of them, as typed.
        work_dir: where everything is written.
        jobs: trainings at a time.
        options: further ``--cfg-options`` of all.
        command: the command that asked for it.
        ledger: where the results are.
        rates: tried of every config beside its own, with the first seed.
    """

    configs: tuple[str, ...]
    seeds: tuple[int, ...] = (0, 1, 2)
    method: str = "Sum"
    work_dir: str = "work_dirs/precision_recall"
    jobs: int = 1
    options: tuple[str, ...] = ()
    command: str = ""
    ledger: LedgerOptions = field(default_factory=LedgerOptions)
    rates: tuple[float, ...] = ()


@dataclass(frozen=True)
class DetectorFindings:
    """What the trainings say.

    Args:
        names: of the detectors, the reference first.
        values: by detector and quantity, over the seeds.
        apart: by detector but the reference, its difference to it, paired by seed and place.
        precision: by detector, the curves' mean over its seeds, one for each IoU.
        losses: by detector, the terms at the end of training, over the seeds.
        minutes: by detector, of training.
    """

    names: tuple[str, ...]
    values: Mapping[str, Mapping[str, Spread]]
    apart: Mapping[str, Mapping[str, Spread]]
    precision: Mapping[str, tuple[tuple[float, ...], ...]]
    losses: Mapping[str, Mapping[str, Spread]]
    minutes: Mapping[str, Spread]


def find(
    results: Sequence[Result], reference_config: str = "", all_known: Sequence[Result] = ()
) -> DetectorFindings:
    """What results say; detectors in the order in which they come.

    Args:
        results: trainings with curves among their details, one a detector, seed and place.
        reference_config: that of the reference; '' means the first one's.
        all_known: of the study, by which places that count as one are told, if it is more than
            the results.
    """
    by_detector: dict[str, list[Result]] = {Path(reference_config or results[0].config).stem: []}
    same = places_as_one(all_known or results)
    seen = set()
    for result in results:
        key = (result.config, result.seed, same[result.place])
        if key not in seen:
            by_detector.setdefault(Path(result.config).stem, []).append(result)
        seen.add(key)
    names = tuple(by_detector)
    # Only trainings of one seed and one place are a pair.
    measured = {
        name: {(one.seed, same[one.place]): _quantities(one) for one in found}
        for name, found in by_detector.items()
    }
    reference = measured[names[0]]
    quantities = list(next(iter(reference.values())))
    return DetectorFindings(
        names=names,
        values={
            name: {
                q: spread(one_a_seed({k: one[q] for k, one in measured[name].items()}))
                for q in quantities
            }
            for name in names
        },
        apart={
            name: {
                q: spread(
                    one_a_seed(
                        {
                            k: one[q] - reference[k][q]
                            for k, one in measured[name].items()
                            if k in reference
                        }
                    )
                )
                for q in quantities
            }
            for name in names[1:]
        },
        precision={name: _mean_curves(found) for name, found in by_detector.items()},
        losses={
            name: {
                term: spread([one.losses[term] for one in found if term in one.losses])
                for term in dict.fromkeys(term for one in found for term in one.losses)
            }
            for name, found in by_detector.items()
        },
        minutes={
            name: spread([one.seconds.get("training", float("nan")) / 60 for one in found])
            for name, found in by_detector.items()
        },
    )


def _quantities(result: Result) -> dict[str, float]:
    curves = Curves(tuple(tuple(row) for row in result.details["precision"]))
    found = {"AP": result.scores["test"]}
    for iou in IOUS:
        found[f"AP at IoU {iou:g}"] = curves.average(iou)
        for precision in PRECISIONS:
            found[f"recall at precision {precision:g}, IoU {iou:g}"] = curves.recall_at(
                iou, precision
            )
        for recall in RECALLS:
            found[f"precision at recall {recall:g}, IoU {iou:g}"] = curves.precision_at(iou, recall)
    return found


def _mean_curves(found: Sequence[Result]) -> tuple[tuple[float, ...], ...]:
    rows = [one.details["precision"] for one in found]
    return tuple(
        tuple(sum(row[k][r] for row in rows) / len(rows) for r in range(len(rows[0][k])))
        for k in range(len(IOUS))
    )
