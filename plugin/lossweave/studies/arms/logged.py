"""What a finished training logged towards its end."""

from __future__ import annotations

from pathlib import Path

from lossweave.studies.runs.record import read_scalars

__all__ = ["logged_at_end"]

#: Iterations whose mean stands for the end.
_LAST = 100


def logged_at_end(folder: Path, last: int = _LAST) -> dict[str, float]:
    """Every logged loss, and the gradient's norm, as the mean over the last iterations.

    Args:
        folder: a finished training's.
        last: how many iterations; a row counts by the iteration at which it was logged.
    """
    paths = sorted(folder.glob("*/vis_data/scalars.json"))
    rows = [row for row in read_scalars(paths) if "loss" in row]
    kept = [row for row in rows if row["step"] > rows[-1]["step"] - last]
    names = [name for name in rows[-1] if name.startswith("loss_") or name == "grad_norm"]
    return {name: sum(row[name] for row in kept) / len(kept) for name in names}
