"""Two gloo processes, and a loss that is not finite on one of them."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from helpers.mmdet_support import combiner_config
from helpers.mmdet_toy import toy_config
from helpers.ranks import RANKS, spawn
from mmengine.runner import Runner

from lossweave.errors import NonFiniteLossError

CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "stock": (None, {}),
    "Sum": ("Sum", {}),
    "UncertaintyWeighting": (combiner_config("UncertaintyWeighting"), {}),
    "skip": ("Sum", {"on_nonfinite": "skip"}),
}


def _poisoned(rank: int, model: Any) -> None:
    """A nan in the third forward of the last rank."""
    stock, calls = model.loss, [0]

    def loss(*args: Any, **kwargs: Any) -> Any:
        losses = stock(*args, **kwargs)
        if rank == RANKS - 1 and calls[0] == 2:
            losses["loss_bbox"] = [x * torch.nan for x in losses["loss_bbox"]]
        calls[0] += 1
        return losses

    model.loss = loss


def _work(rank: int, root: str, work: str) -> None:
    for name, (combiner, options) in CASES.items():
        folder = Path(work) / name
        cfg = toy_config("retinanet", Path(root), folder, combiner, model=options, iterations=4)
        cfg.default_hooks.lossweave = dict(type="lossweave.CombinerHook")
        cfg.default_hooks.checkpoint.interval = 3
        cfg.launcher, cfg.experiment_name = "pytorch", f"{name}_{rank}"
        cfg.model_wrapper_cfg = dict(type="MMDistributedDataParallel", device_ids=None)
        runner = Runner.from_cfg(cfg)
        _poisoned(rank, runner.model.module)
        message = ""
        try:
            runner.train()
        except NonFiniteLossError as error:
            message = str(error)
        said: list[Any] = [None] * RANKS
        dist.all_gather_object(said, message)
        saved = list(folder.glob("*.pth"))
        if name == "skip":
            assert said == ["", ""] and saved
            assert all(p.isfinite().all() for p in runner.model.parameters())
        else:
            term = " (term 'loc')" if combiner is not None else ""
            assert said[0].startswith(f"iteration 2: loss_bbox{term} is nan"), said
            assert said[0] == said[1] and not saved


def test_all_ranks_stop_name_the_same_and_save_nothing(data, tmp_path) -> None:
    spawn(_work, str(data), str(tmp_path))
