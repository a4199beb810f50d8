"""Training and testing of yaml configs and LazyConfigs, as Detectron2's own tools do it.

What they add to the stock tools: the :class:`~lossweave.detectron2.CombinerHook`, a checkpoint
on Ctrl-C, and numbered draws where the config asks for them.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode, instantiate
from detectron2.data import MetadataCatalog
from detectron2.engine import (
    AMPTrainer,
    DefaultTrainer,
    HookBase,
    SimpleTrainer,
    create_ddp_model,
    default_writers,
    hooks,
)
from detectron2.evaluation import (
    COCOEvaluator,
    LVISEvaluator,
    PascalVOCDetectionEvaluator,
    inference_on_dataset,
    print_csv_format,
)
from detectron2.modeling import GeneralizedRCNNWithTTA
from detectron2.utils import comm

from lossweave.detectron2.draws import build_numbered_train_loader
from lossweave.detectron2.hook import CombinerHook
from lossweave.errors import LossweaveError
from lossweave.host.interrupt import Interrupt

__all__ = [
    "SaveOnInterruptHook",
    "Trainer",
    "evaluate_lazy",
    "steady_scripts",
    "test_lazy",
    "test_yaml",
    "train_lazy",
    "train_yaml",
]

_LOGGER = logging.getLogger("detectron2.lossweave")


class SaveOnInterruptHook(HookBase):
    """On Ctrl-C, finish the iteration, write a checkpoint, and only then stop.

    A second Ctrl-C stops at once. With several processes it does nothing, since they would have
    to agree on the iteration. It goes last, after everything that belongs to the iteration.

    Args:
        checkpointer: the trainer's.
    """

    def __init__(self, checkpointer: Any) -> None:
        self._checkpointer = checkpointer
        self._interrupt = Interrupt(_LOGGER.warning)

    def before_train(self) -> None:
        """Take the interrupt signal over."""
        if comm.get_world_size() == 1:
            self._interrupt.take()

    def after_step(self) -> None:
        """Save and stop, if asked to."""
        if not self._interrupt.asked:
            return
        at = self.trainer.iter
        self._checkpointer.save(f"model_{at:07d}", iteration=at)
        _LOGGER.warning("interrupted; saved model_%07d.pth, go on with --resume", at)
        raise KeyboardInterrupt

    def after_train(self) -> None:
        """Give the signal back."""
        self._interrupt.give_back()


class Trainer(DefaultTrainer):
    """Detectron2's default trainer with the combiner's hook and the evaluators it knows."""

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        """Numbered draws where ``LOSSWEAVE.NUMBERED_DRAWS`` says so, else the stock loader."""
        if cfg.LOSSWEAVE.NUMBERED_DRAWS:
            return build_numbered_train_loader(cfg)
        return super().build_train_loader(cfg)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> Any:
        """The evaluator that the data set's metadata name.

        Raises:
            LossweaveError: none is known, or it does not fit the model.
        """
        return evaluator_of(cfg, dataset_name)

    def build_hooks(self) -> list[Any]:
        """The stock hooks, with ours before those that save and write."""
        made = super().build_hooks()
        node = self.cfg.LOSSWEAVE
        self.combiner_hook = CombinerHook(
            held_out=_held_out(self.cfg) if node.HELD_OUT else None,
            held_out_batches=node.HELD_OUT_BATCHES,
        )
        return [*made[:1], self.combiner_hook, *made[1:], SaveOnInterruptHook(self.checkpointer)]

    def state_dict(self) -> dict[str, Any]:
        """With the inner trainer's state, the optimizer, which Detectron2 0.6 leaves out."""
        return {**super().state_dict(), "_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """The inverse of :meth:`state_dict`."""
        super().load_state_dict(state_dict)
        if "_trainer" in state_dict:
            self._trainer.load_state_dict(state_dict["_trainer"])


def _held_out(cfg: CfgNode) -> Any:
    """Training batches of the held-out data sets, in the main process."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.DATASETS.TRAIN = cfg.LOSSWEAVE.HELD_OUT
    cfg.DATALOADER.NUM_WORKERS = 0
    return build_numbered_train_loader(cfg)


def evaluator_of(cfg: CfgNode, dataset: str) -> Any:
    """The evaluator of a registered data set, by the type in its metadata.

    Raises:
        LossweaveError: the type is unknown, or wants detections from a network of proposals.
    """
    kind = MetadataCatalog.get(dataset).get("evaluator_type")
    folder = str(Path(cfg.OUTPUT_DIR) / "inference")
    meta = cfg.MODEL.META_ARCHITECTURE
    proposals = "ProposalNetwork" in (meta, cfg.LOSSWEAVE.BASE_DETECTOR)
    if kind == "coco":
        return COCOEvaluator(dataset, output_dir=folder)
    if proposals:
        raise LossweaveError(
            f"the evaluator of {dataset} ({kind}) takes detections, and a ProposalNetwork makes "
            "proposals; evaluate it on a data set in COCO format"
        )
    if kind == "pascal_voc":
        return PascalVOCDetectionEvaluator(dataset)
    if kind == "lvis":
        return LVISEvaluator(dataset, output_dir=folder)
    raise LossweaveError(f"no evaluator is known for the data set {dataset} of type {kind!r}")


def train_yaml(cfg: CfgNode, resume: str | None) -> Trainer:
    """Train a yaml config.

    Args:
        cfg: the config.
        resume: None, 'auto' for the newest checkpoint of the output directory, or a path.

    Returns:
        The trainer, after training.
    """
    trainer = Trainer(cfg)
    if resume in (None, "auto"):
        trainer.resume_or_load(resume=resume is not None)
    else:
        trainer.checkpointer.load(resume)
        trainer.start_iter = trainer.iter + 1
    _explained(trainer.combiner_hook, trainer.train)
    return trainer


def test_yaml(cfg: CfgNode, checkpoint: str, tta: bool) -> dict[str, Any]:
    """Evaluate a checkpoint on a yaml config's test sets.

    Raises:
        LossweaveError: test-time augmentation of a model that Detectron2 has none for.
    """
    model = Trainer.build_model(cfg)
    DetectionCheckpointer(model).load(checkpoint)
    if not tta:
        return dict(Trainer.test(cfg, model))
    try:
        augmented = GeneralizedRCNNWithTTA(cfg, model)
    except AssertionError as error:
        raise LossweaveError(
            f"--tta: Detectron2 has test-time augmentation for R-CNN detectors alone ({error})"
        ) from None
    return dict(Trainer.test(cfg, augmented))


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
    model = instantiate(cfg.model).to(cfg.train.device)
    _LOGGER.info("Model:\n%s", model)
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    loader = instantiate(cfg.dataloader.train)
    model = create_ddp_model(model, **cfg.train.ddp)
    kind = AMPTrainer if cfg.train.amp.enabled else SimpleTrainer
    trainer = kind(model, loader, optimizer)
    checkpointer = DetectionCheckpointer(model, cfg.train.output_dir, trainer=trainer)
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
            hooks.EvalHook(cfg.train.eval_period, lambda: evaluate_lazy(cfg, model)),
            hooks.PeriodicWriter(writers, period=cfg.train.log_period) if main else None,
            *last,
            SaveOnInterruptHook(checkpointer),
        ]
    )
    start = 0
    if resume in (None, "auto"):
        checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=resume is not None)
        if resume and checkpointer.has_checkpoint():
            start = trainer.iter + 1
    else:
        checkpointer.load(resume)
        start = trainer.iter + 1
    _explained(combiner_hook, lambda: trainer.train(start, cfg.train.max_iter))
    return trainer


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


def steady_scripts() -> None:
    """Let scripted functions (RetinaNet's focal loss) give the same bits from the first call on.

    TorchScript fuses a function after it has seen it run, which changes the last bits; a resumed
    run would see that at another iteration.
    """
    torch.jit.set_fusion_strategy([("STATIC", 0), ("DYNAMIC", 0)])


def _explained(hook: CombinerHook, train: Any) -> None:
    """Train; where the trainer ends the run at a loss that is not finite, say which."""
    try:
        train()
    except FloatingPointError as error:
        what = hook.failure()
        if not what:
            raise
        raise LossweaveError(what) from error
