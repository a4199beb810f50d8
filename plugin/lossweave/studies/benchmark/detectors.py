"""The detectors that are measured, on one batch, sharing weights with their stock twins."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.structures import InstanceData

from lossweave.mmdet.configs import with_combiner
from lossweave.progress import Progress
from lossweave.studies.benchmark.timing import seconds_of

__all__ = [
    "CONTROL",
    "DETECTORS",
    "Setting",
    "Step",
    "advance",
    "build_detector",
    "fixed_batch",
    "optimizer_of",
    "sharing",
]

#: The row that pairs the stock detector with itself.
CONTROL = "stock (control)"


@dataclass(frozen=True)
class Setting:
    """What is measured of a detector on a kind of device.

    Args:
        config: its config.
        size: height and width of the pictures.
    """

    config: str
    size: tuple[int, int]


#: Per detector, what is measured on a CPU and what on a GPU.
DETECTORS: dict[str, dict[str, Setting]] = {
    "retinanet": {
        "cpu": Setting("lossweave::mmdet/demo/retinanet_demo.py", (160, 160)),
        "cuda": Setting("mmdet::retinanet/retinanet_r50_fpn_1x_coco.py", (800, 1216)),
    },
    "ssd": {
        "cpu": Setting("lossweave::mmdet/demo/ssd_demo.py", (160, 160)),
        "cuda": Setting("mmdet::ssd/ssd300_coco.py", (300, 300)),
    },
    "faster_rcnn": {
        "cpu": Setting("lossweave::mmdet/demo/faster-rcnn_demo.py", (160, 160)),
        "cuda": Setting("mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py", (800, 1216)),
    },
}


class Step:
    """One training step: forward, parse_losses, backward, optimizer.

    The random state is the same before each, so samplers of boxes do the same work.
    """

    def __init__(
        self, model: Any, optimizer: OptimWrapper, batch: Any, wait: Callable[[], None]
    ) -> None:
        self.model, self.optimizer, self.batch, self.wait = model, optimizer, batch, wait
        self.iteration = 0

    def __call__(self) -> float:
        torch.manual_seed(0)
        np.random.seed(0)
        return seconds_of(self.run, self.wait)

    def run(self) -> None:
        advance(self.model, self.iteration)
        self.iteration += 1
        self.model.train_step(self.batch, self.optimizer)


def advance(model: Any, iteration: int) -> None:
    """What the hook does before an iteration, for combiners that count updates."""
    combination = getattr(model, "loss_combination", None)
    if combination is not None:
        combination.set_progress(
            Progress(iteration=iteration, max_iterations=10_000, iterations_per_epoch=50)
        )


def fixed_batch(
    cfg: Config, size: tuple[int, int], batch_size: int, boxes: int = 4
) -> dict[str, Any]:
    """A batch of noise with boxes: the work of a step hardly depends on what is in a picture.

    Args:
        cfg: the detector's config, for its number of classes.
        size: height and width in pixels.
        batch_size: number of pictures.
        boxes: objects a picture.

    Returns:
        What MMDetection's data loader gives: 'inputs' and 'data_samples'.
    """
    generator = np.random.default_rng(0)
    height, width = size
    classes = _classes(cfg)
    inputs, samples = [], []
    for _ in range(batch_size):
        picture = generator.integers(0, 256, (3, height, width), dtype=np.uint8)
        sides = generator.uniform(0.15, 0.4, (boxes, 2)) * [width, height]
        corners = generator.uniform(0, 1, (boxes, 2)) * ([width, height] - sides)
        truth = InstanceData(
            bboxes=torch.tensor(np.hstack([corners, corners + sides]), dtype=torch.float32),
            labels=torch.tensor(generator.integers(0, classes, boxes)),
        )
        meta = dict(img_shape=size, ori_shape=size, pad_shape=size, scale_factor=(1.0, 1.0))
        sample = DetDataSample(metainfo=meta, gt_instances=truth)
        sample.ignored_instances = InstanceData(
            bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long)
        )
        inputs.append(torch.from_numpy(picture))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def _classes(cfg: Config) -> int:
    roi = cfg.model.get("roi_head")
    head = roi.bbox_head if roi is not None else cfg.model.bbox_head
    return int((head[0] if isinstance(head, list) else head).num_classes)


def build_detector(cfg: Config, combiner: str | None) -> Any:
    """The config's detector under a combiner, or stock, whatever the config says of it."""
    cfg = cfg.copy()
    if combiner is not None:
        return MODELS.build(with_combiner(cfg, combiner).model)
    model = cfg.model
    if "base_detector" in model:
        model["type"] = model.pop("base_detector")
        for key in ("combiner", "terms", "extra", "on_nonfinite", "loaded_state"):
            model.pop(key, None)
    return MODELS.build(model)


def sharing(model: Any, stock: Any) -> Any:
    """The model with the stock detector's own modules, so that both have the same weights."""
    for name, module in stock.named_children():
        setattr(model, name, module)
    return model.train()


def optimizer_of(model: Any, cfg: Config) -> OptimWrapper:
    """The config's optimizer with a step too small to matter: every step does the same work."""
    own = cfg.optim_wrapper.to_dict()
    own["type"] = "OptimWrapper"
    own["optimizer"]["lr"] = 1e-9
    own.pop("paramwise_cfg", None)  # which says a line per parameter, and changes no work
    return build_optim_wrapper(model, own)
