"""Samples of the weights over time."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from lossweave.errors import LossweaveError
from lossweave.mmdet import WeightSampleHook

_HOOK = dict(type="lossweave.WeightSampleHook", count=50)


def _samples(work_dir: str) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path) for path in sorted(Path(work_dir, "weights").glob("*.npy"))}


def test_samples_over_time_and_after_resuming(
    make_config: Callable[..., Config], train: Callable[[Config], Runner]
) -> None:
    cfg = make_config("retinanet", "Sum", "whole", default_hooks__weight_sample=_HOOK)
    trained = train(cfg).model
    found = _samples(cfg.work_dir)
    assert list(found) == ["iter_000000", "iter_000002", "iter_000004"]  # the logger's interval
    assert all(sample.shape == (50,) for sample in found.values())
    assert not np.array_equal(found["iter_000000"], found["iter_000004"])
    # They are the model's own weights.
    everything = {float(x) for p in trained.parameters() if p.requires_grad for x in p.flatten()}
    assert set(found["iter_000004"].tolist()) <= everything

    first = make_config("retinanet", "Sum", "parts", default_hooks__weight_sample=_HOOK)
    first.train_cfg.max_iters = 3
    train(first)
    second = make_config("retinanet", "Sum", "parts", default_hooks__weight_sample=_HOOK)
    second.resume = True
    train(second)
    again = _samples(second.work_dir)
    assert list(again) == list(found)
    assert all(np.array_equal(again[name], found[name]) for name in found)


@pytest.mark.parametrize("wrong", [dict(interval=0), dict(count=0), dict(interval=1.5)])
def test_wrong_arguments(wrong: dict[str, int]) -> None:
    with pytest.raises(LossweaveError, match="at least 1"):
        WeightSampleHook(**wrong)
