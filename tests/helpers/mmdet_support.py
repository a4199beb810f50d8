"""What several of the adapter's tests use."""

from pathlib import Path
from typing import Any

import torch
from mmengine.runner import Runner

from helpers.gather import gathered
from lossweave.combiners import GradientCombiner, combiner_class, combiner_names
from lossweave.staged import TrainingRecord


def combiner_config(name: str, **more: Any) -> dict[str, Any]:
    """A config of a registered combiner, with arguments suited to a few iterations."""
    case = gathered().get(name)
    return dict(type=name, **{**(case.training if case else {}), **more})


#: Arguments of an AutoLoss that learns from held-out losses.
HELD: dict[str, Any] = {"reward": "held_out", "reward_interval": 1}


def with_held_out(cfg: Any) -> Any:
    """The config with held-out data for the hook: the training's own, for want of others."""
    cfg.default_hooks.lossweave.held_out = dict(
        batch_size=3, num_workers=0, dataset=cfg.train_dataloader.dataset
    )
    return cfg


ALL_COMBINERS = combiner_names()
GRADIENT_COMBINERS = [
    name for name in ALL_COMBINERS if issubclass(combiner_class(name), GradientCombiner)
]
VALUE_COMBINERS = [name for name in ALL_COMBINERS if name not in GRADIENT_COMBINERS]


def image_batch(rank: int, empty: bool = False, size: int = 64) -> dict[str, Any]:
    """Two images of a rank; with ``empty``, without any object."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    generator = torch.Generator().manual_seed(rank)
    inputs, samples = [], []
    for _ in range(2):
        shape = (3, size, size)
        inputs.append(torch.randint(0, 255, shape, generator=generator, dtype=torch.uint8))
        corner = torch.randint(0, 24, (2, 2), generator=generator).float()
        boxes = torch.cat([corner, corner + 28], dim=1)[: 0 if empty else 2]
        meta = dict(img_shape=(size, size), batch_input_shape=(size, size))
        sample = DetDataSample(metainfo=meta)
        labels = torch.randint(0, 3, (len(boxes),), generator=generator)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def stock_state(runner: Runner) -> dict[str, torch.Tensor]:
    """The detector's own weights and buffers."""
    state = runner.model.state_dict()
    return {k: v.clone() for k, v in state.items() if not k.startswith("loss_combination")}


def assert_same(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    """Bit for bit."""
    assert one.keys() == two.keys()
    different = [k for k in one if not torch.equal(one[k], two[k])]
    assert not different, f"{len(different)} of {len(one)} differ, e.g. {different[:3]}"


def assert_close(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> None:
    """Equal but for the order of sums: to 1e-5 of each tensor's largest entry."""
    assert one.keys() == two.keys()
    for key in one:
        error = (one[key] - two[key]).abs().max() / two[key].abs().max().clamp(min=1e-3)
        assert error < 1e-5, f"{key} differs by {error:.1e}"


STAGES = ("rpn1", "rcnn1", "rpn2", "rcnn2")


def check_four_steps(record: TrainingRecord, work_dir: Path, framework: str) -> None:
    """The record of four steps of three iterations of two images each."""
    assert TrainingRecord.load(work_dir) == record
    assert record.finished and (record.kind, record.framework) == ("alternating", framework)
    assert tuple(stage.name for stage in record.stages) == STAGES
    for stage in record.stages:
        assert (stage.iterations, stage.batch_size, stage.image_passes) == (3, 2, 6)
        assert stage.optimizer_steps == 3 and stage.peak_memory
        assert 0 < stage.seconds_per_iteration < stage.seconds < stage.ended - stage.started
        assert [point.iteration for point in stage.curve] == [2, 3]
        terms = {"rpn_cls", "rpn_loc"} if "rpn" in stage.name else {"roi_cls", "roi_loc"}
        assert set(stage.curve[-1].losses) == terms
        assert (stage.proposals is not None) == ("rpn" in stage.name)
        assert set(stage.metrics) >= {"AR@10", "AR@100"}
        assert ("AP50" in stage.metrics) == ("rcnn" in stage.name)
    assert record.unified is not None and record.unified.metrics == record.stages[-1].metrics
    assert record.stages[1].metrics["AR@10"] == record.stages[0].metrics["AR@10"]
