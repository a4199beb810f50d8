"""Training and testing of LazyConfigs, as Detectron2's own ``lazyconfig_train_net.py`` does it.

What is added: the :class:`~lossweave.detectron2.CombinerHook`, and a checkpoint on Ctrl-C.
"""

import logging
from collections.abc import Sequence
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import instantiate
from detectron2.engine import (
    AMPTrainer,
    HookBase,
    SimpleTrainer,
    create_ddp_model,
    default_writers,
    hooks,
)
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.utils import comm

from lossweave.detectron2.checkpoints import WholeCheckpointer, start_from
from lossweave.detectron2.hook import CombinerHook
from lossweave.detectron2.interrupt import SaveOnInterruptHook
from lossweave.detectron2.run import train_explained
from lossweave.detectron2.rungs import RungHook
from lossweave.errors import wrong_input

__all__ = ["evaluate_lazy", "test_lazy", "train_lazy"]

_LOGGER = logging.getLogger("detectron2.lossweave")


def train_lazy(
    cfg: Any, resume: str | None, measuring: Sequence[HookBase] = (), last: Sequence[HookBase] = ()
) -> Any:
    """Train a LazyConfig, as the stock ``lazyconfig_train_net.py`` does.

    Args:
        cfg: the config.
        resume: None, 'auto' for the newest checkpoint of the output directory, or a path.
        measuring: hooks between the combiner's and those that save and write.
        last: hooks after those.

    Returns:
        The trainer, after training.
    """
    with wrong_input():
        trainer, hook, start = _trainer_of(cfg, resume, measuring, last)
    train_explained(hook, lambda: trainer.train(start, cfg.train.max_iter))
    return trainer


def _trainer_of(
    cfg: Any, resume: str | None, measuring: Sequence[HookBase], last: Sequence[HookBase]
) -> tuple[Any, CombinerHook, int]:
    """The trainer of a LazyConfig, the combiner's hook, and the iteration to begin with."""
    model = instantiate(cfg.model).to(cfg.train.device)
    _LOGGER.info("Model:\n%s", model)
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    loader = instantiate(cfg.dataloader.train)
    model = create_ddp_model(model, **cfg.train.ddp)
    kind = AMPTrainer if cfg.train.amp.enabled else SimpleTrainer
    trainer = kind(model, loader, optimizer)
    checkpointer = WholeCheckpointer(model, cfg.train.output_dir, trainer=trainer)
    interrupt = SaveOnInterruptHook(checkpointer)

    def evaluate() -> Any:
        return evaluate_lazy(cfg, model)

    stoppable = interrupt.stoppable(evaluate)
    rungs, looks = cfg.train.get("rungs"), None
    if rungs:
        found = cfg.dataloader.evaluator.get("output_dir") or f"{cfg.train.output_dir}/inference"
        cfg.dataloader.evaluator.output_dir = found
        looks = RungHook(list(rungs), evaluate, stoppable, checkpointer, found)
    held_out = cfg.dataloader.get("held_out")
    combiner_hook = CombinerHook(held_out=None if held_out is None else instantiate(held_out))
    main = comm.is_main_process()
    writers = default_writers(cfg.train.output_dir, cfg.train.max_iter) if main else []
    trainer.register_hooks(
        [
            hooks.IterationTimer(),
            combiner_hook,
            *measuring,
            hooks.LRScheduler(scheduler=instantiate(cfg.lr_multiplier)),
            hooks.PeriodicCheckpointer(checkpointer, **cfg.train.checkpointer) if main else None,
            None if looks else hooks.EvalHook(cfg.train.eval_period, stoppable),
            hooks.PeriodicWriter(writers, period=cfg.train.log_period) if main else None,
            *last,
            interrupt,
            looks,
        ]
    )
    start = start_from(checkpointer, trainer, cfg.train.init_checkpoint, resume)
    return trainer, combiner_hook, start


def test_lazy(cfg: Any, checkpoint: str) -> dict[str, Any]:
    """Evaluate a checkpoint on a LazyConfig's test set."""
    model = instantiate(cfg.model).to(cfg.train.device)
    model = create_ddp_model(model)
    DetectionCheckpointer(model).load(checkpoint)
    return dict(evaluate_lazy(cfg, model) or {})


def evaluate_lazy(cfg: Any, model: Any) -> Any:
    """The metrics of a model on a LazyConfig's test set; None where it has no evaluator."""
    if "evaluator" not in cfg.dataloader:
        return None
    loader = instantiate(cfg.dataloader.test)
    found = inference_on_dataset(model, loader, instantiate(cfg.dataloader.evaluator))
    print_csv_format(found)
    return found
