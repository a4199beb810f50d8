"""Training and testing of yaml configs, as Detectron2's own tools do it.

What is added to the stock trainer: the :class:`~lossweave.detectron2.CombinerHook`, a checkpoint
on Ctrl-C, and numbered draws where the config asks for them.
"""

import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import DefaultTrainer, HookBase, hooks
from detectron2.evaluation import COCOEvaluator, LVISEvaluator, PascalVOCDetectionEvaluator
from detectron2.modeling import GeneralizedRCNNWithTTA

from lossweave.detectron2.checkpoints import WholeCheckpointer, start_from
from lossweave.detectron2.draws import build_numbered_train_loader
from lossweave.detectron2.hook import CombinerHook
from lossweave.detectron2.interrupt import SaveOnInterruptHook
from lossweave.detectron2.run import train_explained
from lossweave.detectron2.rungs import RungHook
from lossweave.errors import LossweaveError, wrong_input
from lossweave.utils.fields import near_names

__all__ = ["Trainer", "evaluator_of", "test_yaml", "train_yaml"]


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
        self.checkpointer = WholeCheckpointer(
            self._trainer.model, self.cfg.OUTPUT_DIR, trainer=weakref.proxy(self)
        )
        made = super().build_hooks()
        node = self.cfg.LOSSWEAVE
        self.combiner_hook = CombinerHook(
            held_out=_held_out(self.cfg) if node.HELD_OUT else None,
            held_out_batches=node.HELD_OUT_BATCHES,
        )
        last = SaveOnInterruptHook(self.checkpointer)
        stoppable = last.stoppable(self._evaluate)
        evaluation: Any = hooks.EvalHook(self.cfg.TEST.EVAL_PERIOD, stoppable)
        looks = None
        if node.RUNGS:
            found = _evaluation_folder(self.cfg)
            looks = RungHook(node.RUNGS, self._evaluate, stoppable, self.checkpointer, found)
            evaluation = None  # which register_hooks leaves out
        made = [evaluation if isinstance(hook, hooks.EvalHook) else hook for hook in made]
        return [*made[:1], self.combiner_hook, *made[1:], last, looks]

    def _evaluate(self) -> Any:
        self._last_eval_results = self.test(self.cfg, self.model)
        return self._last_eval_results

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


def _evaluation_folder(cfg: CfgNode) -> str:
    return str(Path(cfg.OUTPUT_DIR) / "inference")


def evaluator_of(cfg: CfgNode, dataset: str) -> Any:
    """The evaluator of a registered data set, by the type in its metadata.

    Raises:
        LossweaveError: the type is unknown, or wants detections from a network of proposals.
    """
    kind = MetadataCatalog.get(dataset).get("evaluator_type")
    folder = _evaluation_folder(cfg)
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


def _refuse_unknown_data(cfg: CfgNode) -> None:
    """What is evaluated on after the training is known before it.

    Raises:
        LossweaveError: naming the data set.
    """
    for name in cfg.DATASETS.TEST:
        if name not in DatasetCatalog:
            raise LossweaveError(
                f"DATASETS.TEST: there is no data set {name!r}; {near_names(name, DatasetCatalog)}"
            )


def train_yaml(
    cfg: CfgNode,
    resume: str | None,
    measuring: Sequence[HookBase] = (),
    last: Sequence[HookBase] = (),
) -> Trainer:
    """Train a yaml config.

    Args:
        cfg: the config.
        resume: None, 'auto' for the newest checkpoint of the output directory, or a path.
        measuring: further hooks.
        last: hooks after those.

    Returns:
        The trainer, after training.
    """
    with wrong_input():
        _refuse_unknown_data(cfg)
        trainer = Trainer(cfg)
        trainer.register_hooks([*measuring, *last])
        trainer.start_iter = start_from(trainer.checkpointer, trainer, cfg.MODEL.WEIGHTS, resume)
    train_explained(trainer.combiner_hook, trainer.train)
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
