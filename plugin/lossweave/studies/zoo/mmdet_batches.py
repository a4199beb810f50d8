"""One tiny training batch for any model of the zoo: random images, boxes, masks and maps."""

from collections.abc import Mapping
from typing import Any

import torch
from mmdet.structures import DetDataSample, ReIDDataSample, TrackDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.structures import InstanceData, PixelData

__all__ = ["batch_for", "class_count"]


def class_count(model: Any) -> int:
    """The least number of classes that any head of a model's config names, from 1 to 10."""
    found = [10]

    def walk(value: Any) -> None:
        if isinstance(value, Mapping):
            for key, item in value.items():
                if key in ("num_classes", "num_things_classes") and isinstance(item, int):
                    found.append(max(1, item))
                walk(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                walk(item)

    walk(model)
    return min(found)


def batch_for(cfg: Mapping[str, Any], size: int) -> dict[str, Any]:
    """What the data loader would give a detector's ``train_step``, for two random images.

    Args:
        cfg: the config, which says what kind of detector it is, and which annotations it loads.
        size: height and width of the images.
    """
    model, loaded = cfg["model"], repr(cfg.get("train_dataloader"))
    masks, regions = "'with_mask': True" in loaded, "'with_seg': True" in loaded
    if "LoadPanopticAnnotations" in loaded:
        masks = regions = True
    prepared = str((model.get("data_preprocessor") or {}).get("type"))
    kind = str(getattr(model["type"], "__name__", model["type"])).split(".")[-1]
    generator = torch.Generator().manual_seed(0)
    classes = class_count(model)
    if kind == "BaseReID":
        return _identities(generator)
    if "detector" in model and "MultiBranch" in prepared:
        branches = ("sup", "unsup_teacher", "unsup_student")
        images = [_images(generator, classes, size, masks, regions) for _ in branches]
        return {
            key: {name: batch[key] for name, batch in zip(branches, images, strict=True)}
            for key in ("inputs", "data_samples")
        }
    batch = _images(generator, classes, size, masks, regions)
    if "Track" in prepared:
        return _video(batch)
    return batch


def _images(
    generator: torch.Generator, classes: int, size: int, masks: bool, regions: bool
) -> dict[str, Any]:
    images = [
        torch.randint(0, 255, (3, size, size), generator=generator, dtype=torch.uint8)
        for _ in range(2)
    ]
    samples = [_sample(generator, classes, size, at) for at in range(2)]
    for sample in samples:
        if not masks:
            del sample.gt_instances.masks
        if not regions:
            del sample.gt_sem_seg
    return {"inputs": images, "data_samples": samples}


def _sample(generator: torch.Generator, classes: int, size: int, at: int) -> DetDataSample:
    count = 3
    corner = torch.rand(count, 2, generator=generator) * size * 0.5
    extent = (0.2 + 0.25 * torch.rand(count, 2, generator=generator)) * size
    boxes = torch.cat([corner, corner + extent], dim=1)
    masks = torch.zeros(count, size, size, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.round().int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    instances = InstanceData(
        bboxes=HorizontalBoxes(boxes, dtype=torch.float32),
        labels=torch.randint(0, classes, (count,), generator=generator),
        masks=BitmapMasks(masks.numpy(), size, size),
        instances_ids=torch.arange(count),
    )
    shape = (size, size)
    sample = DetDataSample(
        metainfo=dict(
            img_id=at, img_path="", img_shape=shape, ori_shape=shape, batch_input_shape=shape,
            pad_shape=shape, scale_factor=(1.0, 1.0), flip=False, flip_direction=None,
            border=[0, size, 0, size], homography_matrix=torch.eye(3).numpy(), frame_id=at,
            video_id=0, is_key_frame=at == 0,
        )
    )  # fmt: skip
    sample.gt_instances = instances
    sample.ignored_instances = InstanceData(
        bboxes=HorizontalBoxes(torch.zeros(0, 4), dtype=torch.float32),
        labels=torch.zeros(0, dtype=torch.long),
    )
    regions = torch.randint(0, classes, (1, size, size), generator=generator, dtype=torch.uint8)
    sample.gt_sem_seg = PixelData(sem_seg=regions)
    sample.proposals = InstanceData(
        bboxes=torch.cat([boxes, (boxes + size * 0.1).clamp(max=size)]),
        scores=torch.rand(2 * count, generator=generator),
    )
    return sample


def _video(batch: dict[str, Any]) -> dict[str, Any]:
    """Two frames of one video as a batch of one, whose boxes are plain tensors."""
    for sample in batch["data_samples"]:
        for instances in (sample.gt_instances, sample.ignored_instances):
            instances.bboxes = instances.bboxes.tensor
    track = TrackDataSample(
        video_data_samples=batch["data_samples"],
        metainfo=dict(key_frames_inds=[0], ref_frames_inds=[1]),
    )
    return {"inputs": [torch.stack(batch["inputs"])], "data_samples": [track]}


def _identities(generator: torch.Generator) -> dict[str, Any]:
    """Four pictures, two of each person, of the one size that the models' pooling knows."""
    shape = (256, 128)
    images = torch.randint(0, 255, (4, 3, *shape), generator=generator, dtype=torch.uint8)
    samples = []
    for at in range(4):
        sample = ReIDDataSample(metainfo=dict(img_shape=shape, ori_shape=shape))
        samples.append(sample.set_gt_label(at // 2))
    return {"inputs": list(images), "data_samples": samples}
