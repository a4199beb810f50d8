"""Two plain steps on a real detector: turns against the half-weighted sum."""

from pathlib import Path

import torch
from helpers.mmdet_toy import toy_config, write_data

from lossweave.studies.turns.first_order import first_order


def test_on_one_batch_the_distance_falls_as_the_rate(tmp_path: Path) -> None:
    cfg = toy_config("retinanet", write_data(tmp_path / "data"), tmp_path / "run", "Sum")
    cfg.dump(str(tmp_path / "config.py"))
    state = torch.get_rng_state()
    found = first_order(str(tmp_path / "config.py"), rates=(1e-1, 1e-2, 1e-3))
    torch.set_rng_state(state)
    near, far = found["one batch"], found["new batches"]
    assert near[1e-1] > 4 * near[1e-2] > 16 * near[1e-3] > 0
    assert near[1e-3] < 0.02
    # What two batches differ by does not fall.
    assert far[1e-3] > 0.9 * far[1e-2] > 0.3
