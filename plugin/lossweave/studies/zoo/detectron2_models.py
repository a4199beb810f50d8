"""Models of Detectron2's zoo."""

import copy
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode, LazyConfig, instantiate
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances, Keypoints, PolygonMasks
from detectron2.utils.events import EventStorage
from omegaconf import OmegaConf
from torch import Tensor, nn

from lossweave.detectron2.configs import load_config, with_combiner

__all__ = ["Detectron2Model", "content"]

_CLASSES = 5  # every config of the zoo has at least as many
_KEYPOINTS = 17
#: Regions of an image that a second stage trains on, at most: what it costs is mostly theirs.
_REGIONS = 16


def content(path: str) -> Any:
    """What of a config decides its model; None where it has none."""
    cfg = load_config(path)
    if isinstance(cfg, CfgNode):
        return {"yaml": yaml.safe_load(cfg.MODEL.dump())}
    model = cfg.get("model")
    return None if model is None else {"py": LazyConfig.to_py(OmegaConf.create({"model": model}))}


class Detectron2Model:
    """A config of Detectron2's, without pretrained weights, on the CPU.

    Args:
        path: where it is.
    """

    def __init__(self, path: str) -> None:
        self.cfg = load_config(path)
        if isinstance(self.cfg, CfgNode):
            self.cfg.MODEL.WEIGHTS, self.cfg.MODEL.DEVICE = "", "cpu"
            heads = self.cfg.MODEL.ROI_HEADS
            heads.BATCH_SIZE_PER_IMAGE = min(heads.BATCH_SIZE_PER_IMAGE, _REGIONS)
            _replace(self.cfg.MODEL, "SyncBN", "BN")  # which needs several GPUs

    def stock(self) -> nn.Module:
        """The config's own model."""
        return _built(copy.deepcopy(self.cfg))

    def combined(self, combiner: str, **options: Any) -> nn.Module:
        """The same as ``tools/train.py --combiner`` makes it, with ``--combiner-options``."""
        return _built(with_combiner(copy.deepcopy(self.cfg), combiner, options))

    def losses(self, model: Any, size: int) -> tuple[dict[str, Any], Tensor]:
        """The losses of two random images, and what the trainers run backward on."""
        with EventStorage():
            made = model(_batch(size))
        if isinstance(made, Tensor):
            return {}, made
        return made, sum(made.values())  # type: ignore[return-value]


def _built(cfg: Any) -> nn.Module:
    return build_model(cfg) if isinstance(cfg, CfgNode) else instantiate(cfg.model)


def _replace(node: Any, old: str, new: str) -> None:
    for key, value in node.items():
        if isinstance(value, CfgNode):
            _replace(value, old, new)
        elif value == old:
            node[key] = new


def _batch(size: int) -> list[dict[str, Any]]:
    """Two random images with boxes, masks, keypoints, regions and proposals."""
    generator = torch.Generator().manual_seed(0)
    batch = []
    for _ in range(2):
        count = 3
        corner = torch.rand(count, 2, generator=generator) * size * 0.5
        extent = (0.2 + 0.25 * torch.rand(count, 2, generator=generator)) * size
        boxes = torch.cat([corner, corner + extent], dim=1)
        instances = Instances((size, size))
        instances.gt_boxes = Boxes(boxes)
        # A person, since keypoint heads know no other class.
        instances.gt_classes = torch.zeros(count, dtype=torch.long)
        instances.gt_masks = PolygonMasks([
            [[x, y, u, y, u, v, x, v]] for x, y, u, v in boxes.tolist()
        ])  # fmt: skip
        inside = torch.rand(count, _KEYPOINTS, 2, generator=generator)
        points = corner[:, None] + inside * extent[:, None]
        seen = torch.full((count, _KEYPOINTS, 1), 2.0)
        instances.gt_keypoints = Keypoints(torch.cat([points, seen], dim=2))
        proposals = Instances((size, size))
        proposals.proposal_boxes = Boxes(torch.cat([boxes, (boxes + 0.1 * size).clamp(max=size)]))
        proposals.objectness_logits = torch.rand(2 * count, generator=generator)
        image = torch.randint(0, 255, (3, size, size), generator=generator, dtype=torch.uint8)
        regions = torch.randint(0, _CLASSES, (size, size), generator=generator)
        batch.append({
            "image": image, "instances": instances, "proposals": proposals, "sem_seg": regions,
            "height": size, "width": size,
        })  # fmt: skip
    return batch
