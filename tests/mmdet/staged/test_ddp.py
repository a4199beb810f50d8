"""Training in stages on two processes: one record, one set of proposals, one detector."""

from pathlib import Path

import torch
from helpers.mmdet_staged_toy import quick, staged_config, train_stages, weights
from helpers.mmdet_support import assert_same
from helpers.ranks import spawn
from mmengine.registry import MODELS, init_default_scope

from lossweave.mmdet.staged.configs import proposal_loader, stage_model
from lossweave.mmdet.staged.proposals import proposal_pass
from lossweave.mmdet.staged.training import StagedAdapter
from lossweave.staged import TrainingRecord
from lossweave.staged.proposal_file import ProposalFile


def _start(rank: int, data: str, work_dir: str) -> None:
    cfg = staged_config(Path(data), Path(work_dir), evaluation__stages=False)
    cfg.launcher = "pytorch"
    cfg.model_wrapper_cfg = dict(type="MMDistributedDataParallel", device_ids=None)
    with quick():
        train_stages(cfg)


def test_two_processes(data: Path, tmp_path: Path) -> None:
    work_dir = tmp_path / "ddp"
    spawn(_start, str(data), str(work_dir))
    record = TrainingRecord.load(work_dir)
    assert record.finished and record.unified is not None
    assert [(s.batch_size, s.image_passes) for s in record.stages] == [(4, 12)] * 4
    start, end = (weights(work_dir / "rcnn2" / f"{n}.pth") for n in ("initial", "final"))
    frozen = [name for name in start if not name.startswith("roi_head")]
    assert_same({n: start[n] for n in frozen}, {n: end[n] for n in frozen})
    # Both processes' halves of the proposals, beside those of one process.
    cfg = staged_config(data, tmp_path / "alone")
    init_default_scope("mmdet")
    stage = record.stages[0]
    runner = StagedAdapter(cfg)
    network = MODELS.build(stage_model(cfg, runner.plan.schedule[stage.name]))
    network.load_state_dict(weights(work_dir / "rpn1/final.pth"))
    targets = {"train": (tmp_path / "alone.npz", runner.plan.proposals)}
    alone = proposal_pass(network, proposal_loader(cfg, "train"), targets, "key", "alone")
    both = ProposalFile(work_dir / "rpn1/proposals.npz")
    assert sorted(both) == sorted(alone["train"]) and len(both) == 12
    for image in both:
        for one, two in zip(both[image], alone["train"][image], strict=True):
            torch.testing.assert_close(torch.tensor(one), torch.tensor(two), atol=1e-3, rtol=1e-3)
    assert not list((work_dir / "rpn1").glob("*.partial.npz"))
