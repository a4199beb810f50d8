"""The pictures of alternating against joint training."""

from pathlib import Path

import numpy as np
from helpers.staged_runs import staged_runs
from PIL import Image

from lossweave.studies.alternating_vs_joint.plots import plot_differences, plot_stages


def test_pictures(tmp_path: Path) -> None:
    for draw in (plot_stages, plot_differences):
        picture = np.asarray(Image.open(draw(staged_runs(), tmp_path / "new.png")).convert("RGB"))
        assert picture.shape[0] > 200 and picture.std() > 5
