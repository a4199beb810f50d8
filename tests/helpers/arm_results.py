"""Results of arms, made by hand."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from helpers.ledger_results import result
from lossweave.studies.ledger.result import Result, hashed


def arm_result(
    study: str, places: dict[str, Any], seed: int, test: float, **changes: Any
) -> Result:
    """An arm's training, with so much AP on the test split and 0.02 more on validation data."""
    details = dict(places=places, **changes.pop("details", {}))
    return result(
        changes.pop("method", "Sum"),
        seed,
        test,
        study=study,
        config_hash=hashed(places),
        asked=f"python tools/{study}.py",
        details=details,
        **changes,
    )


def box_loss_results(seeds: int = 3) -> list[Result]:
    """L2 loses twice as much to wrong boxes as L1; the weights 3 and 1 are the best ones."""
    found = []
    sweep = [("L2", w, 0.0, 0) for w in (1.0, 3.0, 9.0)] + [("L1", w, 0.0, 0) for w in (0.3, 1.0)]
    arms = [("L2", 3.0), ("L1", 1.0), ("GIoU", 2.0)]
    every = [
        (*arm, share, seed) for seed, share, arm in product(range(seeds), (0.0, 0.05, 0.2), arms)
    ]
    for loss, weight, share, seed in dict.fromkeys([*sweep, *every]):
        grows = {"L2": 0.4, "L1": 0.2, "GIoU": 0.1}[loss]
        middle = 0.05 + grows * share + 0.002 * seed
        best = (loss, weight) in arms
        spread = np.random.default_rng(seed).gamma(4, middle / 3.67, 200)
        metrics = dict(bbox_mAP=0.4, bbox_mAP_50=0.8 - grows * share, bbox_mAP_75=0.5 - share)
        boxes = dict(objects=250, sides=[round(1000 * e) for e in spread], overlap=[])
        places = dict(loss=loss, weight=weight, share=share)
        ap = 0.4 - grows * share - (0 if best else 0.1)
        found.append(
            arm_result("box_losses", places, seed, ap, details=dict(metrics=metrics, boxes=boxes))
        )
    return found


def regularisation_results(seeds: int = 3) -> list[Result]:
    """Curves of an L with the corner at 1e-4 (l1) and 1e-3 (l2); AP is best at no penalty."""
    strengths = dict(l1=(1e-6, 1e-5, 1e-4, 1e-3), l2=(1e-5, 1e-4, 1e-3, 1e-2), decay=(0.5, 5.0))
    arms = [("none", 0.0), *((k, s) for k, values in strengths.items() for s in values)]
    shapes = [(5000, 0.50), (4000, 0.505), (400, 0.56), (60, 0.6), (50, 3.0)]
    found = []
    for seed, (kind, strength) in product(range(seeds), arms):
        values = (0.0, *strengths.get(kind, ()))
        size, data = shapes[values.index(strength)]
        size, data = size * (1 + 0.01 * seed), data * (1 + 0.01 * seed)
        sizes = {"l1": size, "l2": size / 10, "count": 2e5, "below 0.001": 1 - size / 6000}
        details = dict(data=data, penalty=strength * size, sizes=sizes)
        places = {"kind": kind, "lambda": strength}
        ap = 0.4 - 0.1 * (data - 0.5) + 0.001 * seed
        found.append(arm_result("regularisation", places, seed, ap, details=details))
    return found


#: Test AP by b, where nothing is scaled back.
BY_RATIO = {0.01: 0.30, 0.1: 0.395, 1.0: 0.40, 10.0: 0.36, 100.0: 0.05}


def scale_results(seeds: int = 2) -> list[Result]:
    """AdamW as in :data:`BY_RATIO`; SGD without clipping diverges at 100, but at its 100th rate."""
    found = []
    curves = [("AdamW", "on", 2e-3), ("SGD", "on", 5e-3), ("SGD", "off", 5e-3)]
    for seed, (optimizer, clip, rate) in product(range(seeds), curves):
        for ratio, ap in BY_RATIO.items():
            for factor in (1.0, 0.01) if ratio == 100 else (1.0,):
                lost = optimizer == "SGD" and clip == "off" and ratio * factor > 10
                test = 0.0 if lost else ap + 0.01 * seed + (0.2 if factor < 1 else 0)
                details: dict[str, Any] = (
                    dict(diverged="loss is nan") if lost
                    else dict(logged=dict(loss_cls=0.3, loss_bbox=0.1))
                )  # fmt: skip
                places = dict(optimizer=optimizer, clip=clip, b=ratio, factor=factor)
                found.append(
                    arm_result(
                        "scale",
                        places,
                        seed,
                        test,
                        rate=rate * factor,
                        method=f"Sum weights=[1,{ratio:g}]",
                        details=details,
                    )
                )
    return found
