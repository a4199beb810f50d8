"""Training in stages under Detectron2: resumed, frozen, recorded, ending in a stock detector."""

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.datasets import register_pascal_voc
from detectron2.engine import SimpleTrainer
from detectron2.modeling.meta_arch import GeneralizedRCNN, ProposalNetwork
from helpers.detectron2_staged_toy import write_config
from helpers.detectron2_toy import DATA
from helpers.mmdet_support import STAGES, assert_same, check_four_steps
from PIL import Image

from lossweave.cli import main
from lossweave.detectron2.configs import load_config
from lossweave.detectron2.lazy import evaluate_lazy
from lossweave.detectron2.staged import proposals
from lossweave.detectron2.staged.configs import stage_config
from lossweave.detectron2.staged.training import StagedAdapter, train_stages
from lossweave.errors import LossweaveError
from lossweave.staged import TrainingRecord
from lossweave.staged.proposal_file import ProposalFile
from lossweave.studies.alternating_vs_joint.configs import read_staged
from lossweave.studies.alternating_vs_joint.findings import ALTERNATING, Run

VOC_CLASSES = ("red", "green", "blue")


@pytest.fixture(scope="module")
def config(data: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    logging.getLogger("detectron2").setLevel(logging.WARNING)
    return write_config(tmp_path_factory.mktemp("config") / "staged_toy.py")


def _train(config: str, work_dir: Path, *options: str, resume: bool = False) -> TrainingRecord:
    cfg = load_config(config, [f"train.output_dir={work_dir}", "train.device=cpu", *options])
    return train_stages(cfg, "auto" if resume else None)


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=False)["model"]


@pytest.fixture(scope="module")
def whole(config: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingRecord]:
    """One training of four steps, never interrupted."""
    work_dir = tmp_path_factory.mktemp("alternating") / "whole"
    return work_dir, _train(config, work_dir)


def _staged(config: str, work_dir: Path, *options: str) -> StagedAdapter:
    return StagedAdapter(load_config(config, [f"train.output_dir={work_dir}", *options]))


# ------------------------------------------------------------------------------ the result


def test_record(whole) -> None:
    work_dir, record = whole
    check_four_steps(record, work_dir, "detectron2")


def test_the_final_checkpoint_is_the_stock_detectors(whole, config: str, tmp_path: Path) -> None:
    """Stock class, stock keys, stock evaluation: the metrics of the record."""
    work_dir, record = whole
    cfg = load_config(config)
    model = instantiate(cfg.model)
    assert type(model) is GeneralizedRCNN
    model.load_state_dict(_weights(work_dir / "unified.pth"), strict=True)
    again = instantiate(cfg.model)
    DetectionCheckpointer(again).load(str(work_dir / "unified.pth"))
    assert_same(model.state_dict(), again.state_dict())
    found = evaluate_lazy(cfg, model)["bbox"]
    assert record.unified.metrics["AP"] == found["AP"] / 100
    assert record.unified.metrics["AP50"] == found["AP50"] / 100


def test_the_halves_are_those_of_the_stages(whole) -> None:
    work_dir, _ = whole
    unified = _weights(work_dir / "unified.pth")
    halves = {"rpn2": "proposal_generator", "rcnn2": "roi_heads", "rcnn1": "backbone"}
    for stage, module in halves.items():
        final = _weights(work_dir / stage / "final.pth")
        names = [name for name in final if name.startswith(module)]
        assert names and all(torch.equal(final[n], unified[n]) for n in names)
    first = _weights(work_dir / "initial.pth")
    for stage in ("rpn1", "rcnn1"):
        start = _weights(work_dir / stage / "initial.pth")
        assert all(torch.equal(start[name], first[name]) for name in start)


def test_step_4_makes_the_predictor_afresh(whole) -> None:
    work_dir, _ = whole
    start = _weights(work_dir / "rcnn2/initial.pth")
    before, first = _weights(work_dir / "rcnn1/final.pth"), _weights(work_dir / "initial.pth")
    for name in (n for n in start if n.startswith("roi_heads")):
        fresh = "box_predictor" in name
        assert torch.equal(start[name], before[name]) != fresh, name
        assert not (fresh and "weight" in name and torch.equal(start[name], first[name]))


# ---------------------------------------------------------------------------------- frozen


@pytest.mark.parametrize(
    ("stage", "head"), [("rpn2", "proposal_generator"), ("rcnn2", "roi_heads")]
)
def test_frozen_is_bit_identical(whole, stage: str, head: str) -> None:
    """Weights, BatchNorm's statistics and counters; the optimizer knows the head alone."""
    work_dir, _ = whole
    before, after = (_weights(work_dir / stage / f"{n}.pth") for n in ("initial", "final"))
    frozen = {n: t for n, t in before.items() if n.startswith("backbone")}
    assert any("running_var" in name for name in frozen)
    assert_same(frozen, {n: after[n] for n in frozen})
    heads = [n for n in before if n.startswith(head) and before[n].is_floating_point()]
    assert all(not torch.equal(before[n], after[n]) for n in heads if "weight" in n)
    one, two = (_weights(work_dir / "rcnn1" / f"{n}.pth") for n in ("initial", "final"))
    assert any("running" in n and not torch.equal(one[n], two[n]) for n in one)
    checkpoint = torch.load(work_dir / stage / "model_final.pth", weights_only=False)
    kept = checkpoint["trainer"]["optimizer"]
    held = [tuple(s["momentum_buffer"].shape) for s in kept["state"].values()]
    assert sorted(held) == sorted(tuple(before[n].shape) for n in heads)


def test_a_frozen_part_has_no_graph(whole, config: str) -> None:
    work_dir, _ = whole
    staged = _staged(config, work_dir)
    for name, frozen in (("rpn1", False), ("rpn2", True)):
        cfg = stage_config(staged.cfg, staged.plan.schedule[name], Path("none"), None, 1, 0)
        model = instantiate(cfg.model).train()
        assert isinstance(model, ProposalNetwork)
        features = model.backbone(torch.randn(1, 3, 64, 64))
        assert all(f.requires_grad != frozen for f in features.values())
        assert model.backbone.bottom_up.training != frozen and model.proposal_generator.training


# ------------------------------------------------------------------------------- resumption


class _PowerCut(RuntimeError):
    pass


def test_resumes_anywhere_to_the_same_weights(whole, config, tmp_path, monkeypatch) -> None:
    """Stopped in an RPN stage, in a proposal pass, and in a stage with frozen parts."""
    work_dir, record = whole
    step, steps = SimpleTrainer.run_step, []

    def failing(after: int) -> Callable[[Any], None]:
        def run_step(trainer: Any) -> None:
            steps.append(trainer.iter)
            if len(steps) > after:
                raise _PowerCut
            step(trainer)

        steps.clear()
        return run_step

    quick = ["evaluation.stages=False", "evaluation.recall=[]"]
    broken = tmp_path / "broken"
    with monkeypatch.context() as patch, pytest.raises(_PowerCut):
        patch.setattr(SimpleTrainer, "run_step", failing(after=2))
        _train(config, broken, *quick)
    found = TrainingRecord.load(broken)
    assert not found.finished and [s.name for s in found.stages] == ["rpn1"]

    propose, calls = proposals.propose, []

    def stopping(*args: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise _PowerCut
        return propose(*args)

    with monkeypatch.context() as patch, pytest.raises(_PowerCut):
        patch.setattr(SimpleTrainer, "run_step", failing(after=9))
        patch.setattr(proposals, "propose", stopping)
        _train(config, broken, *quick, resume=True)
    assert steps == [2], "the first stage went on with its last iteration"
    with monkeypatch.context() as patch, pytest.raises(_PowerCut):
        patch.setattr(SimpleTrainer, "run_step", failing(after=8))
        _train(config, broken, *quick, resume=True)
    assert (broken / "rpn2/final.pth").is_file() and not (broken / "rcnn2/final.pth").is_file()
    end = _train(config, broken, *quick, resume=True)

    assert end.finished
    for stage in STAGES:
        one, two = (_weights(d / stage / "final.pth") for d in (work_dir, broken))
        assert_same(one, two)
    assert_same(_weights(work_dir / "unified.pth"), _weights(broken / "unified.pth"))
    for one, two in zip(record.stages, end.stages, strict=True):
        assert (one.iterations, one.image_passes) == (two.iterations, two.image_passes)
        assert [p.losses for p in one.curve] == [p.losses for p in two.curve]
        if one.proposals is not None:
            assert one.proposals.checksum == two.proposals.checksum


# -------------------------------------------------------------------------------- proposals


def test_proposals_are_those_of_the_stage(whole, config: str) -> None:
    """The stock ProposalNetwork's own output on the test data, under the same settings."""
    work_dir, record = whole
    found = ProposalFile(work_dir / "rpn1/proposals.npz")
    assert len(found) == 11 and record.stages[0].proposals.checksum == found.checksum
    cfg = load_config(config)
    whole_model = instantiate(cfg.model)
    mean, std = (t.flatten().tolist() for t in (whole_model.pixel_mean, whole_model.pixel_std))
    rpn = whole_model.proposal_generator
    rpn.pre_nms_topk = rpn.post_nms_topk = {False: 10**6}
    rpn.post_nms_topk, rpn.nms_thresh, rpn.min_box_size = {False: 60}, 0.7, 4.0
    stock = ProposalNetwork(
        backbone=whole_model.backbone, proposal_generator=rpn, pixel_mean=mean, pixel_std=std
    ).eval()
    stock.load_state_dict(_weights(work_dir / "rpn1/final.pth"), strict=True)
    for batch in instantiate(cfg.dataloader.test):
        if str(batch[0]["image_id"]) not in found:
            continue
        with torch.no_grad():
            (made,) = stock(batch)
        boxes, scores = found[str(batch[0]["image_id"])]
        assert len(boxes) > 5
        expected = made["proposals"]
        torch.testing.assert_close(expected.proposal_boxes.tensor, torch.tensor(boxes))
        torch.testing.assert_close(expected.objectness_logits, torch.tensor(scores))


def _first(entry: dict[str, Any]) -> list[float]:
    return entry["annotations"][0]["bbox"]


def test_proposals_follow_the_image(whole, config: str) -> None:
    """Resized from 64 x 64 to 96 x 80 and flipped, by hand."""
    work_dir, _ = whole
    file = work_dir / "rpn1/proposals.npz"
    staged = _staged(config, work_dir)
    cfg = stage_config(staged.cfg, staged.plan.schedule["rcnn1"], Path("none"), file, 60, 0)
    mapper = instantiate(cfg.dataloader.train.mapper)
    entries = [e for e in get_detection_dataset_dicts(DATA) if len(e["annotations"]) == 1]
    # Not in the middle, so that the object tells which way round the image is.
    entry = next(e for e in entries if abs(64 - 2 * _first(e)[0] - _first(e)[2]) > 4)
    boxes, scores = ProposalFile(file)[str(entry["image_id"])]
    flips = set()
    for seed in range(6):
        random.seed(seed)
        np.random.seed(seed)
        made = mapper(entry)
        x1, y1, x2, y2 = (torch.tensor(boxes) * torch.tensor([1.5, 1.25, 1.5, 1.25])).unbind(1)
        gt = made["instances"].gt_boxes.tensor[0]
        flipped = abs(float(gt[0]) - _first(entry)[0] * 1.5) > 2  # integer boxes stay integers
        if flipped:
            x1, x2 = 96 - x2, 96 - x1
        expected = torch.stack([x1, y1, x2, y2], dim=1)
        given = made["proposals"]
        torch.testing.assert_close(given.proposal_boxes.tensor, expected, atol=1e-3, rtol=0)
        assert given.objectness_logits.tolist() == scores.tolist()
        flips.add(flipped)
    assert flips == {True, False}


# --------------------------------------------------------------------------------- variants


def test_joint_training_has_the_same_record(whole, config: str, tmp_path: Path) -> None:
    work_dir, _ = whole
    record = _train(config, tmp_path / "joint", "schedule.type=joint")
    assert record.kind == "joint" and [s.name for s in record.stages] == ["joint"]
    (stage,) = record.stages
    assert set(stage.metrics) == {"AP", "AP50", "AR@10", "AR@100"}
    assert set(stage.curve[-1].losses) == {"rpn_cls", "rpn_loc", "roi_cls", "roi_loc"}
    assert record.unified is not None and record.unified.metrics == stage.metrics
    assert_same(_weights(work_dir / "initial.pth"), _weights(tmp_path / "joint/initial.pth"))
    one, two = (_weights(tmp_path / f"joint/{n}.pth") for n in ("joint/final", "unified"))
    assert_same(one, two)


def test_two_networks_are_evaluated_with_fixed_proposals(config: str, tmp_path: Path) -> None:
    """With a combiner, too: it works on each stage's own terms."""
    budget = ("schedule.stop_after=2", "schedule.rpn.iterations=1", "schedule.rcnn.iterations=1")
    work_dir = tmp_path / "two"
    arguments = [config, "--work-dir", str(work_dir), "--combiner", "GeometricMean"]
    record = main.train([*arguments, "--cfg-options", *budget])
    assert record.finished and record.unified is None
    assert {"AP", "AR@10"} <= set(record.stages[-1].metrics)
    assert not (work_dir / "unified.pth").exists()


def _as_voc(root: Path) -> None:
    """The toy data once more, as VOC has them."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    names = []
    for entry in get_detection_dataset_dicts(DATA):
        name = Path(entry["file_name"]).stem
        names.append(name)
        Image.open(entry["file_name"]).save(root / f"JPEGImages/{name}.jpg")
        objects = []
        for x, y, w, h, kind in ((*a["bbox"], a["category_id"]) for a in entry["annotations"]):
            box = dict(xmin=x + 1, ymin=y + 1, xmax=x + w, ymax=y + h)
            corners = "".join(f"<{k}>{v}</{k}>" for k, v in box.items())
            objects.append(
                f"<object><name>{VOC_CLASSES[kind]}</name><pose>no</pose><truncated>0</truncated>"
                f"<difficult>0</difficult><bndbox>{corners}</bndbox></object>"
            )
        size = "<size><width>64</width><height>64</height></size>"
        text = f"<annotation>{size}{''.join(objects)}</annotation>"
        (root / f"Annotations/{name}.xml").write_text(text)
    (root / "ImageSets/Main/toy.txt").write_text("\n".join(names))


def test_vocs_evaluator_and_an_rpn_alone(config: str, tmp_path: Path) -> None:
    """The evaluator sees detections alone; recall of a stage with an RPN needs none."""
    root, name = tmp_path / "voc", "lossweave_toy_voc"
    _as_voc(root)
    register_pascal_voc(name, str(root), "toy", 2007, VOC_CLASSES)
    text = Path(config).read_text().replace("COCOEvaluator", "PascalVOCDetectionEvaluator")
    path = tmp_path / "voc.py"
    path.write_text(text.replace("names=DATA", f"names={name!r}").replace("=DATA", f"={name!r}"))
    try:
        short = ("schedule.rpn.iterations=1", "schedule.rcnn.iterations=1")
        record = _train(str(path), tmp_path / "run", "+schedule.stop_after=2", *short)
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    assert set(record.stages[0].metrics) == {"AR@10", "AR@100"}
    assert set(record.stages[1].metrics) == {"AP", "AP50", "AR@10", "AR@100"}
    assert 0 <= record.stages[1].metrics["AP"] <= record.stages[1].metrics["AP50"] <= 1
    assert record.stages[0].metrics["AR@100"] > 0


def test_a_study_reads_the_config(config: str, whole) -> None:
    """What tools/alternating_vs_joint.py needs to plan its trainings."""
    read = read_staged(config, ["schedule.rpn.iterations=5"])
    assert [s.name for s in read.schedule.stages] == list(STAGES)
    assert read.schedule.stages[0].budget.iterations == 5 and read.batch == 4
    assert [s.name for s in read.joint.stages] == ["joint"]
    assert read.told == read_staged(config).told and " at 0x" not in read.told
    options = [f"{read.seed}=7", *read.loading]
    assert load_config(config, options).train.seed == 7
    record = whole[1]
    assert Run(ALTERNATING, 0, record).final == record.unified.metrics
    with pytest.raises(LossweaveError, match="its schedule is joint"):
        read_staged(config, ["schedule.type=joint"])


# ---------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["+schedule.rnp=1"], "did you mean 'rpn'"),
        (["evaluation.recall=[]", "+evaluation.split=val"], "should be 'test'"),
        (["+proposals.nms.type=soft_nms"], "alone"),
        (["dataloader.train.mapper._target_=a.b.OwnMapper"], "DatasetMapper"),
    ],
)
def test_what_is_refused(config: str, tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        _staged(config, tmp_path, *options)


def test_a_detector_without_stages_is_refused(config: str, tmp_path: Path) -> None:
    text = Path(config).read_text().replace('"faster_rcnn", ".",', '"retinanet", ".",')
    path = tmp_path / "retinanet.py"
    path.write_text(text)
    with pytest.raises(LossweaveError, match="no GeneralizedRCNN"):
        _train(str(path), tmp_path / "run")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--num-gpus", "2"], "this machine has 0"), (["--resume", "a.pth"], "takes no checkpoint")],
)
def test_what_the_tool_refuses(config, tmp_path, arguments: list[str], message: str) -> None:
    folder = str(tmp_path / "run")
    with pytest.raises(LossweaveError, match=message):
        main.train([config, "--work-dir", folder, *arguments])


def test_another_training_in_the_folder_is_refused(whole, config: str) -> None:
    work_dir, _ = whole
    with pytest.raises(LossweaveError, match="go on with --resume"):
        _train(config, work_dir)
    with pytest.raises(LossweaveError, match="another schedule"):
        _train(config, work_dir, "+schedule.rounds=2", resume=True)
    with pytest.raises(LossweaveError, match="seed 0"):
        _train(config, work_dir, "train.seed=1", resume=True)
