"""A few of a model's weights over time, to measure how far apart two trainings went."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from lossweave.errors import LossweaveError
from lossweave.registry import HOOKS

__all__ = ["WeightSampleHook"]


@HOOKS.register_module()
class WeightSampleHook(Hook):
    r"""Writes the same random sample of the trained weights again and again.

    Distances between trainings, :math:`\|\theta_a - \theta_b\| / \|\theta_b - \theta_0\|`,
    need no more than a sample: of n weights, the relative error is about
    :math:`\sqrt{\kappa / 4n}` with the differences' kurtosis κ. Files are
    ``weights/iter_000020.npy`` in the work directory, float32, shape ``(count,)``; number 0 is
    before the first update. A resumed training writes the same files again.

    Args:
        interval: iterations between samples; None means the logger's interval.
        count: weights in the sample (all of them, if there are fewer).

    Raises:
        LossweaveError: an interval or a count below 1.

    Example:
        In a config: ``default_hooks = dict(weight_sample=dict(type='lossweave.WeightSampleHook'))``
    """

    priority = "LOW"

    def __init__(self, interval: int | None = None, count: int = 20_000) -> None:
        for name, value in (("interval", interval), ("count", count)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise LossweaveError(f"WeightSampleHook: {name}={value!r} should be at least 1")
        self.interval, self.count = interval, count
        self._chosen: list[tuple[str, torch.Tensor]] = []

    def before_train(self, runner: Runner) -> None:
        """Choose the weights: by a fixed seed, so alike in all trainings of one detector."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        sizes = [(name, p.numel()) for name, p in model.named_parameters() if p.requires_grad]
        total = sum(size for _, size in sizes)
        drawn = np.random.default_rng(0).choice(total, min(self.count, total), replace=False)
        drawn.sort()
        self._chosen, begin = [], 0
        for name, size in sizes:
            here = drawn[(drawn >= begin) & (drawn < begin + size)] - begin
            if len(here):
                self._chosen.append((name, torch.from_numpy(here)))
            begin += size
        self._every = self.interval or int(
            runner.cfg.get("default_hooks", {}).get("logger", {}).get("interval", 10)
        )
        if runner.iter == 0:
            self._write(runner, 0)

    def after_train_iter(self, runner: Runner, batch_idx: int, *_: Any, **__: Any) -> None:
        """Write the sample where it is time for it."""
        if (runner.iter + 1) % self._every == 0:
            self._write(runner, runner.iter + 1)

    @torch.no_grad()
    def _write(self, runner: Runner, iteration: int) -> None:
        if not is_main_process():
            return
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        named = dict(model.named_parameters())
        parts = [named[name].reshape(-1)[at.to(named[name].device)] for name, at in self._chosen]
        folder = Path(runner.work_dir) / "weights"
        folder.mkdir(exist_ok=True)
        np.save(folder / f"iter_{iteration:06d}.npy", torch.cat(parts).float().cpu().numpy())
