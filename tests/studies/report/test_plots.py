"""Plots are written, and show what they should."""

from pathlib import Path

import numpy as np
import pytest
from helpers.comparison_scores import plain_scores
from helpers.synthetic_runs import record
from PIL import Image

from lossweave.studies.report.plots import plot_history, plot_scores


def test_plot(tmp_path) -> None:
    path = plot_scores(plain_scores(), "Sum", tmp_path / "scores.png")
    assert path.stat().st_size > 5000


@pytest.mark.parametrize("quantity", ["value", "weight"])
@pytest.mark.parametrize("terms", [("cls", "loc"), ("rpn_cls", "rpn_loc", "roi_cls")])
def test_history(tmp_path: Path, quantity: str, terms: tuple[str, ...]) -> None:
    runs = [record(f"Combiner{number}", terms) for number in range(9)]
    path = plot_history(runs, quantity, tmp_path / "new" / "plot.png")
    picture = np.asarray(Image.open(path).convert("RGB"))
    assert picture.shape[0] > 300 and picture.std() > 5
    assert path.stat().st_size < 300_000


def test_history_at_and_below_zero(tmp_path: Path) -> None:
    run = record("Sum")
    series = run.terms["cls"].value
    negative = type(series)(series.steps, tuple(-value for value in series.values))
    run.terms["cls"] = type(run.terms["cls"])(negative, negative)
    for quantity in ("value", "weight"):
        assert plot_history([run], quantity, tmp_path / "plot.png").stat().st_size > 0
