"""Tiny trainings of each kind of config, with what may be changed in them."""

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from helpers.fuzz import staged
from helpers.fuzz.staged import STAGED_FIELDS
from helpers.fuzz.values import BOX, CHOICE, COUNT, RATE, Field

_RUNTIME = {"log_level": "ERROR", "default_scope": "mmdet", "randomness": {"seed": 0}}

MMDET: dict[str, Any] = {
    **_RUNTIME,
    "model": {"type": "lossweave.CombinedLossDetector", "base_detector": "FuzzDetector",
              "combiner": {"type": "Sum"}, "terms": "task"},
    "train_dataloader": {"batch_size": 1, "num_workers": 0,
                         "sampler": {"type": "InfiniteSampler", "shuffle": True},
                         "dataset": {"type": "FuzzData"}},
    "train_cfg": {"type": "IterBasedTrainLoop", "max_iters": 1},
    "optim_wrapper": {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 0.01}},
    "default_hooks": {"checkpoint": {"type": "CheckpointHook", "by_epoch": False, "interval": 1},
                      "logger": {"type": "LoggerHook", "interval": 1},
                      "lossweave": {"type": "lossweave.CombinerHook"}},
    "log_processor": {"by_epoch": False},
}  # fmt: skip

MMDET_FIELDS = (
    Field("train_cfg.max_iters", *COUNT),
    Field("train_dataloader.batch_size", (0, -1, 1.5, True, "many", [], {"a": 1}), (1, 2)),
    Field("train_dataloader.num_workers", (-1, 1.5, True, "many", None, []), (0,)),
    Field("optim_wrapper.optimizer.lr", *RATE),
    Field("optim_wrapper.optimizer.momentum", (-1, float("nan"), "much", None), (0.9,)),
    Field("optim_wrapper.optimizer.type", ("SDG", 5, "", []), ("SGD", "AdamW")),
    Field("optim_wrapper.accumulative_counts", (0, -1, 1.5, True, "two"), (1,)),
    Field("optim_wrapper.clip_grad", ({"max_norm": -1}, {"max_norm": float("nan")}, 5)),
    Field("default_hooks.lossweave.interval", (0, -1, 1.5, True, "x", []), (1, 5)),
    Field("default_hooks.lossweave.intervall", (1,)),
    Field("default_hooks.lossweave.held_out", (5, [], {"batch_size": 1}, "data")),
    Field("default_hooks.lossweave.held_out_batches", (0, True, "x", 1.5), (2,)),
    Field("default_hooks.lossweave.type", ("lossweave.CombinrHook", 5, None)),
    Field("default_hooks.logger.interval", *COUNT),
    Field("default_hooks.checkpoint.interval", ("x", 1.5, True, None, [])),
    Field("model.base_detector", (None, "FuzzDetectr", 5, "", [], "Conv2d", {})),
    Field("model.combiner", (5, None, [], "", "Summ", ["Sum"]), ("Sum", "Max")),
    Field("model.extra", *CHOICE),
    Field("model.on_nonfinite", *CHOICE),
    Field("model.on_nonfinit", ("skip",)),
    Field("model.combinr", ("Sum",)),
    Field("model.type", ("lossweave.CombinedLossDetectr", None, "", 5)),
    Field("model", (5, None, [], "RetinaNet", {})),
    Field("randomness.seed", (-1, 1.5, "x", True), (3,)),
    Field("train_cfg.type", ("IterBasedTrainLop", 5, "", "lossweave.IterBasedTrainLoop")),
    Field("train_dataloader.dataset.type", ("FuzzDat", None, 5)),
    Field("train_dataloader", (5, {}, [])),
    Field("load_from", ("nowhere.pth", 5, "")),
    Field("work_dir", (5, "file/below")),
)

YAML: dict[str, Any] = {
    "MODEL": {"META_ARCHITECTURE": "CombinedLossDetector", "DEVICE": "cpu", "WEIGHTS": ""},
    "LOSSWEAVE": {"BASE_DETECTOR": "FuzzDetector", "COMBINER": {"TYPE": "Sum"}, "TERMS": "task"},
    "DATASETS": {"TRAIN": ["fuzz_data"], "TEST": []},
    "DATALOADER": {"NUM_WORKERS": 0, "FILTER_EMPTY_ANNOTATIONS": False},
    "INPUT": {"MIN_SIZE_TRAIN": [16]},
    "SOLVER": {"IMS_PER_BATCH": 1, "MAX_ITER": 1, "BASE_LR": 0.01, "STEPS": []},
    "TEST": {"EVAL_PERIOD": 0},
    "SEED": 0,
}

YAML_FIELDS = (
    Field("SOLVER.MAX_ITER", (0, -3, 1.5, True, "many", [], {"a": 1}), (1, 2)),
    Field("SOLVER.BASE_LR", (-1.0, float("inf"), float("nan"), "fast", True, []), (0.1,)),
    Field("SOLVER.IMS_PER_BATCH", (0, -1, 1.5, True, "x"), (2,)),
    Field("SOLVER.CHECKPOINT_PERIOD", (0, -1, 1.5, True, "x"), (5,)),
    Field("SOLVER.MOMENTUM", (-1.0, float("nan"), "x"), (0.5,)),
    Field("TEST.EVAL_PERIOD", (-1, 1.5, "x", True), (5,)),
    Field("DATALOADER.NUM_WORKERS", (-1, 1.5, "x", True), (0,)),
    Field("LOSSWEAVE.BASE_DETECTOR", ("FuzzDetectr", "", 5, [], "CombinedLossDetector")),
    Field("LOSSWEAVE.COMBINER.TYPE", ("Summ", "", 5, [], {"a": 1}), ("Max",)),
    Field("LOSSWEAVE.COMBINER.ARGS", ({"type": "Max"}, {"wieghts": [1, 2]}, 5, [1])),
    Field("LOSSWEAVE.COMBINR", ({"TYPE": "Sum"}, 5)),
    Field("LOSSWEAVE.EXTRA", *CHOICE),
    Field("LOSSWEAVE.ON_NONFINITE", *CHOICE),
    Field("LOSSWEAVE.NUMBERED_DRAWS", (5, "x", []), (True,)),
    Field("LOSSWEAVE.HELD_OUT", (["fuzz_data"], ["nowhere"], 5, [5])),
    Field("LOSSWEAVE.HELD_OUT_BATCHES", (0, -1, True, "x", 1.5), (2,)),
    Field("LOSSWEAVE", (5, [])),
    Field("MODEL.META_ARCHITECTURE", ("CombinedLossDetectr", "", 5)),
    Field("MODEL.WEIGHTS", ("nowhere.pth", 5)),
    Field("DATASETS.TRAIN", (["nowhere"], 5, [])),
    Field("VERSION", (1, 7, "x")),
    Field("SEED", ("x", 1.5, []), (3,)),
    Field("OUTPUT_DIR", (5, "file/below")),
)

LAZY = """\
import torch
from detectron2.config import LazyCall as L
from detectron2.data import (
    DatasetMapper, build_detection_train_loader, get_detection_dataset_dicts)
from detectron2.model_zoo import get_config
from detectron2.solver import get_default_optimizer_params
from fvcore.common.param_scheduler import CosineParamScheduler
from helpers.fuzz.detectron2_side import detector
from lossweave.combiners import Sum
from lossweave.detectron2 import combine_losses

inf, nan = float("inf"), float("nan")
train = get_config("common/train.py").train
train.max_iter, train.eval_period, train.checkpointer.period, train.seed = 1, 0, 5, 1
train.init_checkpoint, train.log_period = "", 1
dataloader = dict(
    train=L(build_detection_train_loader)(
        dataset=L(get_detection_dataset_dicts)(names="fuzz_data", filter_empty=False),
        mapper=L(DatasetMapper)(is_train=True, augmentations=[], image_format="BGR"),
        total_batch_size=1, aspect_ratio_grouping=False, num_workers=0))
optimizer = L(torch.optim.SGD)(params=L(get_default_optimizer_params)(), lr=0.01)
lr_multiplier = L(CosineParamScheduler)(start_value=1.0, end_value=1.0)
model = L(combine_losses)(model=L(detector)(), combiner=L(Sum)())
"""

LAZY_FIELDS = (
    Field("train.max_iter", (0, -3, 1.5, True, "many", None, [], {"a": 1}), (1, 2)),
    Field("train.eval_period", (-1, 1.5, True, "x", None), (5,)),
    Field("train.log_period", (0, -1, 1.5, True, "x"), (2,)),
    Field("train.checkpointer.period", (0, -1, True, "x"), (2,)),
    Field("train.seed", ("x", 1.5, []), (3,)),
    Field("train.init_checkpoint", ("nowhere.pth", 5)),
    Field("train.output_dir", (5, "file/below")),
    Field("optimizer.lr", *RATE),
    Field("dataloader.train.total_batch_size", (0, -1, 1.5, True, "x", None), (2,)),
    Field("dataloader.train.num_workers", (-1, 1.5, True, "x"), (0,)),
    Field("dataloader.train.dataset.names", ("nowhere", 5, [])),
    Field("dataloader.held_out", (5, {"a": 1})),
    Field("model.combiner", (5, None, [], "", "Summ", {"type": "Mx"}, {}), ("Max",)),
    Field("model.extra", *CHOICE),
    Field("model.on_nonfinite", *CHOICE),
    Field("model.on_nonfinit", ("skip",)),
    Field("model.model", (5, None, "x", {})),
    Field("model._target_", ("nothing", 5)),
    Field("model", (5, None, [], {})),
    Field("lr_multiplier", (5, None, {})),
)


@dataclass(frozen=True)
class Target:
    """A kind of config.

    Args:
        name: for messages.
        suffix: of its files.
        fields: what may be changed.
        text: the file's content, given changes by path.
        combiner: where the combiner goes: a config to changes by path.
        terms: the same for terms.
        box: the name of its second loss.
        combines: whether all mutations make sense for it, not those of fields alone.
    """

    name: str
    suffix: str
    fields: tuple[Field, ...]
    text: Callable[[Mapping[str, Any]], str]
    combiner: Callable[[dict[str, Any]], dict[str, Any]]
    terms: Callable[[Any], dict[str, Any]]
    box: str
    combines: bool = True


def _put(tree: Any, path: str, value: Any) -> None:
    *above, last = path.split(".")
    for key in above:
        tree = tree.setdefault(key, {})
    tree[last] = value


def _mmdet_text(changes: Mapping[str, Any]) -> str:
    tree = copy.deepcopy(MMDET)
    for path, value in changes.items():
        _put(tree, path, value)
    head = "inf, nan = float('inf'), float('nan')\n"
    return head + "".join(f"{key} = {value!r}\n" for key, value in tree.items())


def _yaml_text(changes: Mapping[str, Any]) -> str:
    tree = copy.deepcopy(YAML)
    for path, value in changes.items():
        _put(tree, path, value)
    return yaml.safe_dump(json.loads(json.dumps(tree)))


def _lazy_text(changes: Mapping[str, Any]) -> str:
    lines = []
    for path, value in changes.items():
        above, _, last = path.rpartition(".")
        names = above.split(".")
        owner = names[0] + "".join(f"[{name!r}]" for name in names[1:])
        lines.append(f"{owner}[{last!r}] = {value!r}" if above else f"{last} = {value!r}")
    return "\n".join([LAZY, *lines, ""])


def _yaml_combiner(config: dict[str, Any]) -> dict[str, Any]:
    given = dict(config)
    kind = given.pop("type", "")
    return {"LOSSWEAVE.COMBINER": {"TYPE": kind, "ARGS": given}}


def _yaml_terms(terms: Any) -> dict[str, Any]:
    key = "LOSSWEAVE.TERM_PATTERNS" if isinstance(terms, dict) else "LOSSWEAVE.TERMS"
    return {key: terms}


def _nothing(given: Any) -> dict[str, Any]:
    raise NotImplementedError


#: Detectron2's stages are evaluated on the one test split.
_STAGED_LAZY_FIELDS = tuple(
    field for field in STAGED_FIELDS if field.path not in ("evaluation.split",)
)
TARGETS = {
    target.name: target
    for target in (
        Target("mmdet", ".py", MMDET_FIELDS, _mmdet_text,
               lambda made: {"model.combiner": made}, lambda made: {"model.terms": made},
               "loss_bbox"),
        Target("yaml", ".yaml", YAML_FIELDS, _yaml_text, _yaml_combiner, _yaml_terms,
               "loss_box_reg"),
        Target("lazy", ".py", LAZY_FIELDS, _lazy_text,
               lambda made: {"model.combiner": made}, lambda made: {"model.terms": made},
               "loss_box_reg"),
        Target("staged", ".py", STAGED_FIELDS, staged.mmdet_text, _nothing, _nothing, "", False),
        Target("staged_lazy", ".py", _STAGED_LAZY_FIELDS, staged.lazy_text, _nothing, _nothing, "",
               False),
    )
}  # fmt: skip


def with_box(value: Any, box: str) -> Any:
    """Terms with the target's own name of its second loss."""
    if isinstance(value, dict):
        return {key: with_box(item, box) for key, item in value.items()}
    if isinstance(value, list):
        return [with_box(item, box) for item in value]
    return box if value == BOX else value


def write_images(folder: Path) -> list[dict[str, Any]]:
    """Two pictures for Detectron2's mapper."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for number in range(2):
        path = folder / f"{number}.png"
        Image.fromarray(np.full((16, 16, 3), 60 * number, dtype=np.uint8)).save(path)
        entries.append({"file_name": str(path), "height": 16, "width": 16, "image_id": number,
                        "annotations": []})  # fmt: skip
    return entries
