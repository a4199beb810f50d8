"""Two gloo processes, and a loss that is not finite on one of them."""

from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import DatasetCatalog
from detectron2.engine import SimpleTrainer, hooks
from detectron2.modeling import build_model
from detectron2.solver import build_optimizer
from helpers.detectron2_toy import DATA, register_data, toy_cfg
from helpers.mmdet_support import combiner_config
from helpers.ranks import RANKS, spawn
from torch.nn.parallel import DistributedDataParallel

from lossweave.detectron2 import CombinerHook, build_numbered_train_loader
from lossweave.errors import NonFiniteLossError


def _poisoned(rank: int, model: Any) -> None:
    """A nan in the third forward of the last rank."""
    stock, calls = model.losses, [0]

    def losses(*args: Any, **kwargs: Any) -> Any:
        found = stock(*args, **kwargs)
        if rank == RANKS - 1 and calls[0] == 2:
            found["loss_box_reg"] = found["loss_box_reg"] * torch.nan
        calls[0] += 1
        return found

    model.losses = losses


def _message(trainer: Any, hook: CombinerHook) -> str:
    try:
        trainer.train(0, 4)
    except NonFiniteLossError as error:
        return str(error)
    except FloatingPointError:  # the main process's trainer sees it first
        return hook.failure()
    return ""


def _work(rank: int, root: str, work: str) -> None:
    if DATA not in DatasetCatalog:
        register_data(Path(root))
    for name in ("Sum", "UncertaintyWeighting", "Alternating", "skip"):
        skips = {"LOSSWEAVE__ON_NONFINITE": "skip"} if name == "skip" else {}
        combiner = combiner_config("IMTLL" if name == "skip" else name)
        cfg = toy_cfg("retinanet", Path(root), combiner, SOLVER__IMS_PER_BATCH=4, **skips)
        torch.manual_seed(0)
        model = build_model(cfg)
        _poisoned(rank, model)
        ddp = DistributedDataParallel(model, broadcast_buffers=False)
        trainer = SimpleTrainer(ddp, build_numbered_train_loader(cfg), build_optimizer(cfg, ddp))
        hook, folder = CombinerHook(), Path(work) / name
        folder.mkdir(exist_ok=True)
        checkpointer = DetectionCheckpointer(ddp, str(folder), trainer=trainer)
        saving = [hooks.PeriodicCheckpointer(checkpointer, 3)] if rank == 0 else []
        trainer.register_hooks([hook, *saving])
        said: list[Any] = [None] * RANKS
        dist.all_gather_object(said, _message(trainer, hook))
        saved = list(folder.glob("*.pth"))
        if name == "skip":
            assert said == ["", ""] and saved
            assert all(p.isfinite().all() for p in model.parameters())
        else:
            assert said[0].startswith("iteration 2: loss_box_reg (term 'loc') is nan"), (name, said)
            assert said[0] == said[1] and not saved


def test_all_ranks_stop_name_the_same_and_save_nothing(data, tmp_path) -> None:
    spawn(_work, str(data), str(tmp_path))
