"""Training in stages on two processes: one record, one set of proposals, one detector."""

import logging
from pathlib import Path

import torch
from detectron2.config import instantiate
from helpers.detectron2_staged_toy import write_config
from helpers.detectron2_toy import DATA, register_data
from helpers.mmdet_support import assert_same
from helpers.ranks import spawn

from lossweave.detectron2.configs import load_config
from lossweave.detectron2.staged.training import StagedAdapter, train_stages
from lossweave.staged import TrainingRecord
from lossweave.staged.proposal_file import ProposalFile

#: Gloo on the CPU: no device of its own for each process.
OPTIONS = ("train.device=cpu", "+train.ddp.device_ids=null", "evaluation.stages=False")


def _start(rank: int, data: str, config: str, work_dir: str) -> None:
    logging.getLogger("detectron2").setLevel(logging.WARNING)
    register_data(Path(data))
    with torch.jit.optimized_execution(False):
        train_stages(load_config(config, [f"train.output_dir={work_dir}", *OPTIONS]), None)


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def test_two_processes(data: Path, tmp_path: Path) -> None:
    work_dir, config = tmp_path / "ddp", write_config(tmp_path / "staged_toy.py")
    spawn(_start, str(data), config, str(work_dir))
    record = TrainingRecord.load(work_dir)
    assert record.finished and record.unified is not None
    assert {"AP", "AP50", "AR@10"} <= set(record.unified.metrics)
    assert [(s.batch_size, s.image_passes) for s in record.stages] == [(4, 12)] * 4
    start, end = (_weights(work_dir / f"rcnn2/{n}.pth") for n in ("initial", "final"))
    frozen = [name for name in start if not name.startswith("roi_heads")]
    assert_same({n: start[n] for n in frozen}, {n: end[n] for n in frozen})
    moved = [n for n in start if n not in frozen and not torch.equal(start[n], end[n])]
    assert any("box_predictor" in name for name in moved)
    # Both processes' halves of the proposals, beside those of one process.
    cfg = load_config(config, [f"train.output_dir={tmp_path}", *OPTIONS])
    adapter = StagedAdapter(cfg)
    stage, targets = adapter.plan.schedule["rpn1"], {}
    targets["train"] = (tmp_path / "alone.npz", adapter.plan.proposals)
    weights = _weights(work_dir / "rpn1/final.pth")
    alone = adapter.make_proposals(stage, weights, "train", targets, "key")["train"]
    both = ProposalFile(work_dir / "rpn1/proposals.npz")
    assert list(both) == list(alone) and len(both) == 11
    for image in both:
        for one, two in zip(both[image], alone[image], strict=True):
            torch.testing.assert_close(torch.tensor(one), torch.tensor(two), atol=1e-3, rtol=1e-3)
    assert not list((work_dir / "rpn1").glob("*.partial.npz"))
    # Resumed where it has ended, and its detector is the stock one.
    instantiate(cfg.model).load_state_dict(_weights(work_dir / "unified.pth"), strict=True)
    assert cfg.dataloader.evaluator.dataset_name == DATA
