"""Training in stages: resumed, frozen, recorded, and ending in an ordinary detector."""

import json
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mmdet
import numpy as np
import pytest
import torch
from helpers.mmdet_staged_toy import quick, staged_config, train_stages, weights
from helpers.mmdet_support import STAGES, assert_same, check_four_steps
from helpers.mmdet_toy import toy_config
from mmengine.config import Config
from mmengine.registry import MODELS, TRANSFORMS, init_default_scope
from mmengine.runner import Runner

from lossweave.cli import main
from lossweave.errors import LossweaveError
from lossweave.host.paths import resolve_config
from lossweave.mmdet import VGG, VGGBBoxHead
from lossweave.mmdet.staged import proposals
from lossweave.mmdet.staged.configs import stage_config
from lossweave.mmdet.staged.training import StagedAdapter
from lossweave.staged import TrainingRecord
from lossweave.staged.proposal_file import ProposalFile

BELOW = ("backbone", "neck")


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    with quick():
        yield


@pytest.fixture(scope="module")
def whole(
    data: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, TrainingRecord, Config]:
    """One training of four steps, never interrupted."""
    work_dir = tmp_path_factory.mktemp("alternating") / "whole"
    cfg = staged_config(data, work_dir)
    return work_dir, train_stages(cfg), cfg


@pytest.fixture
def make(data: Path, tmp_path: Path) -> Callable[..., Config]:
    """Makes configs of staged trainings, without the evaluation of every stage."""

    def config(name: str = "run", **overrides: Any) -> Config:
        quick = {"evaluation__stages": False, "evaluation__recall": [], **overrides}
        return staged_config(data, tmp_path / name, **quick)

    return config


# ------------------------------------------------------------------------------ the result


def test_record(whole) -> None:
    work_dir, record, _ = whole
    check_four_steps(record, work_dir, "mmdet")
    assert record.unified.metrics["AP"] >= 0


def test_the_final_checkpoint_is_the_stock_detectors(whole, data: Path, tmp_path: Path) -> None:
    """Stock config, stock tool, stock keys: the same detections as the run evaluated."""
    work_dir, record, cfg = whole
    stock = cfg.copy()
    for key in ("runner_type", "schedule", "proposals", "evaluation"):
        stock.pop(key)
    assert stock.model.type == "FasterRCNN"
    init_default_scope("mmdet")
    MODELS.build(stock.model).load_state_dict(weights(work_dir / "unified.pth"), strict=True)
    stock.test_evaluator.outfile_prefix = str(tmp_path / "stock")
    stock.load_from, stock.work_dir = str(work_dir / "unified.pth"), str(tmp_path)
    metrics = Runner.from_cfg(stock).test()
    assert metrics["coco/bbox_mAP"] == record.unified.metrics["AP"]
    ours = json.loads((work_dir / "test.bbox.json").read_text())
    assert len(ours) > 100
    assert ours == json.loads((tmp_path / "stock.bbox.json").read_text())


def test_the_halves_are_those_of_the_last_stages(whole) -> None:
    work_dir, _, _ = whole
    unified = weights(work_dir / "unified.pth")
    for stage, part in (("rpn2", "rpn_head"), ("rcnn2", "roi_head"), ("rcnn1", "backbone")):
        final = weights(work_dir / stage / "final.pth")
        names = [name for name in final if name.startswith(part)]
        assert names and all(torch.equal(final[n], unified[n]) for n in names)


def test_both_networks_start_from_the_same_weights(whole) -> None:
    work_dir, _, _ = whole
    rpn, rcnn = (weights(work_dir / s / "initial.pth") for s in ("rpn1", "rcnn1"))
    common = rpn.keys() & rcnn.keys()
    assert {name.split(".")[0] for name in common} == set(BELOW)
    assert all(torch.equal(rpn[name], rcnn[name]) for name in common)
    trained = [weights(work_dir / s / "final.pth") for s in ("rpn1", "rcnn1")]
    assert any(not torch.equal(trained[0][name], trained[1][name]) for name in common)


def test_step_4_makes_the_predictors_afresh(whole) -> None:
    work_dir, _, _ = whole
    start, before = weights(work_dir / "rcnn2/initial.pth"), weights(work_dir / "rcnn1/final.pth")
    first = weights(work_dir / "initial.pth")
    for name in (n for n in start if n.startswith("roi_head")):
        fresh = "fc_cls" in name or "fc_reg" in name
        assert torch.equal(start[name], before[name]) != fresh, name
        assert not (fresh and "weight" in name and torch.equal(start[name], first[name]))


# ---------------------------------------------------------------------------------- frozen


@pytest.mark.parametrize("stage", ["rpn2", "rcnn2"])
def test_frozen_is_bit_identical(whole, stage) -> None:
    """Weights, BatchNorm's statistics and counters, in spite of weight decay."""
    work_dir, _, _ = whole
    before, after = (weights(work_dir / stage / f"{n}.pth") for n in ("initial", "final"))
    frozen = {n: t for n, t in before.items() if n.startswith(BELOW)}
    assert any("running_var" in name for name in frozen)
    assert_same(frozen, {n: after[n] for n in frozen})
    head = [n for n in before if not n.startswith(BELOW) and before[n].is_floating_point()]
    assert all(not torch.equal(before[n], after[n]) for n in head if "weight" in n)
    first = weights(work_dir / "rpn1" / "initial.pth"), weights(work_dir / "rpn1" / "final.pth")
    moved = [n for n in first[0] if "layer4" in n and not torch.equal(first[0][n], first[1][n])]
    assert any("weight" in n for n in moved), "the comparison would see a trained backbone"


@pytest.mark.parametrize(("stage", "part"), [("rpn2", "rpn_head"), ("rcnn2", "roi_head")])
def test_the_optimizer_holds_the_head_alone(whole, stage, part) -> None:
    work_dir, _, _ = whole
    path = Path((work_dir / stage / "last_checkpoint").read_text())
    checkpoint = torch.load(path, weights_only=False)
    state = checkpoint["optimizer"]
    shapes = [tuple(s["momentum_buffer"].shape) for s in state["state"].values()]
    held = [index for group in state["param_groups"] for index in group["params"]]
    heads = [tuple(t.shape) for n, t in checkpoint["state_dict"].items() if n.startswith(part)]
    assert sorted(shapes) == sorted(heads) and len(held) == len(heads)


def test_a_frozen_part_has_no_graph(whole) -> None:
    """Nothing below the head is differentiated, and training mode does not reach it."""
    _, _, cfg = whole
    init_default_scope("mmdet")
    stages = StagedAdapter(cfg).plan.schedule
    model = MODELS.build(stage_config(cfg, stages["rpn2"], None, 0).model).train()
    features = model.extract_feat(torch.randn(1, 3, 64, 64))
    assert all(f.grad_fn is None and not f.requires_grad for f in features)
    assert not any(m.training for m in model.backbone.modules()) and model.rpn_head.training
    model = MODELS.build(stage_config(cfg, stages["rpn1"], None, 0).model).train()
    assert all(f.requires_grad for f in model.extract_feat(torch.randn(1, 3, 64, 64)))


def test_what_moves_a_frozen_part_is_found(make) -> None:
    """A hook of someone else's that changes one statistic by a thousandth."""
    hooks = [dict(type="Perturb", stage="rpn2", path="backbone.bn1.running_mean")]
    with pytest.raises(LossweaveError, match=r"rpn2.*backbone\.bn1\.running_mean"):
        train_stages(make(custom_hooks=hooks))


# ------------------------------------------------------------------------------- resumption


class _PowerCut(RuntimeError):
    pass


def test_resumes_anywhere_to_the_same_weights(whole, make, monkeypatch) -> None:
    """Stopped in an RPN stage, in a proposal pass, by Ctrl-C, and in a frozen stage."""
    work_dir, record, _ = whole

    def stop(stage: str, iteration: int) -> Config:
        return make(custom_hooks=[dict(type="StopIn", stage=stage, iteration=iteration)])

    with pytest.raises(RuntimeError, match="power cut"):
        train_stages(stop("rpn1", 2))
    found = TrainingRecord.load(make().work_dir)
    assert not found.finished and [s.name for s in found.stages] == ["rpn1"]

    propose, calls = proposals.propose, []

    def failing(*args: Any) -> Any:
        calls.append(len(calls))
        if len(calls) == 3:
            raise _PowerCut
        return propose(*args)

    with monkeypatch.context() as patch, pytest.raises(_PowerCut):
        patch.setattr(proposals, "propose", failing)
        train_stages(make(proposals__batch_size=4), resume=True)
    calls.clear()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(proposals, "propose", lambda *a: calls.append(1) or propose(*a))
        interrupt = dict(type="InterruptIn", stage="rcnn1", iteration=0)
        train_stages(make(custom_hooks=[interrupt], proposals__batch_size=4), resume=True)
    assert len(calls) == 1, "two of three batches of proposals were kept"
    with pytest.raises(RuntimeError, match="power cut"):
        train_stages(stop("rcnn2", 2), resume=True)
    end = train_stages(make(), resume=True)

    assert end.finished
    broken = Path(make().work_dir)
    for stage in STAGES:
        assert_same(weights(work_dir / stage / "final.pth"), weights(broken / stage / "final.pth"))
    assert_same(weights(work_dir / "unified.pth"), weights(broken / "unified.pth"))
    for one, two in zip(record.stages, end.stages, strict=True):
        assert (one.iterations, one.image_passes) == (two.iterations, two.image_passes)
        assert [p.losses for p in one.curve] == [p.losses for p in two.curve]
        if one.proposals is not None and two.proposals is not None:
            assert one.proposals.checksum == two.proposals.checksum


def test_another_training_in_the_folder_is_refused(whole, data: Path) -> None:
    work_dir, _, _ = whole
    with pytest.raises(LossweaveError, match="go on with --resume"):
        train_stages(staged_config(data, work_dir))
    other = staged_config(data, work_dir, schedule__rounds=2)
    with pytest.raises(LossweaveError, match="another schedule"):
        train_stages(other, resume=True)
    other = staged_config(data, work_dir, randomness__seed=1)
    with pytest.raises(LossweaveError, match="seed 0"):
        train_stages(other, resume=True)


# -------------------------------------------------------------------------------- proposals


def test_proposals_are_those_of_the_stage(whole) -> None:
    """The stock RPN's own prediction on the test pipeline, in the original image's pixels."""
    work_dir, record, cfg = whole
    found = ProposalFile(work_dir / "rpn1/proposals.npz")
    assert len(found) == 12 and record.stages[0].proposals.checksum == found.checksum
    init_default_scope("mmdet")
    model = cfg.model.copy()
    model.type, model.roi_head = "RPN", None
    model.pop("roi_head")
    settings = dict(nms_pre=-1, nms=dict(type="nms", iou_threshold=0.7))
    model.test_cfg = dict(rpn=dict(**settings, max_per_img=60, min_bbox_size=4))
    stock = MODELS.build(model).eval()
    state = weights(work_dir / "rpn1/final.pth")
    stock.load_state_dict({n.replace("rpn_head", "bbox_head"): t for n, t in state.items()})
    loader = Runner.build_dataloader({**cfg.test_dataloader, "batch_size": 1})
    for batch in loader:
        (result,) = stock.test_step(batch)
        boxes, scores = found[str(result.img_id)]
        torch.testing.assert_close(result.pred_instances.bboxes, torch.tensor(boxes))
        torch.testing.assert_close(result.pred_instances.scores, torch.tensor(scores))


def test_proposals_follow_the_image(whole, data: Path) -> None:
    """As MMDetection's own broadcaster moves them through resizes, flips and crops."""
    work_dir, _, _ = whole
    init_default_scope("mmdet")
    file = work_dir / "rpn1/proposals.npz"
    boxes, scores = ProposalFile(file)["3"]
    moves = [
        dict(type="Resize", scale=(96, 80), keep_ratio=False),
        dict(type="RandomFlip", prob=1.0, direction="horizontal"),
    ]
    image = dict(img_id=3, img_path=str(data / "images" / "3.png"), height=64, width=64)
    load = dict(type="LoadImageFromFile")
    ours = dict(TRANSFORMS.build(load)(dict(image)))
    for config in (*moves, dict(type="lossweave.LoadFixedProposals", file=str(file))):
        ours = TRANSFORMS.build(config)(ours)
    broadcast = [
        load,
        dict(type="LoadProposals"),
        dict(type="ProposalBroadcaster", transforms=moves),
    ]
    theirs = {**image, "proposals": dict(bboxes=boxes, scores=scores)}
    theirs["instances"], theirs["gt_bboxes"] = [], np.zeros((0, 4), np.float32)
    for config in broadcast:
        theirs = TRANSFORMS.build(config)(theirs)
    expected = theirs["proposals"]
    expected = getattr(expected, "tensor", torch.as_tensor(np.asarray(expected)))
    torch.testing.assert_close(torch.tensor(ours["proposals"]), expected, atol=1e-3, rtol=0)
    assert len(ours["proposals"]) == len(ours["proposals_scores"]) == len(boxes)


def test_stale_and_truncated_files_are_refused(make) -> None:
    begin = make(custom_hooks=[dict(type="StopIn", stage="rcnn1", iteration=1)])
    with pytest.raises(RuntimeError, match="power cut"):
        train_stages(begin)
    folder = Path(begin.work_dir) / "rpn1"
    file, final = folder / "proposals.npz", folder / "final.pth"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(LossweaveError, match=r"proposals\.npz is damaged"):
        train_stages(make(), resume=True)
    file.write_bytes(whole)
    kept = torch.load(final, weights_only=False)
    kept["state_dict"]["rpn_head.rpn_reg.bias"] += 1e-6
    torch.save(kept, final)
    with pytest.raises(LossweaveError, match=r"proposals\.npz is stale"):
        train_stages(make(), resume=True)


# --------------------------------------------------------------------------------- variants


def test_joint_training_has_the_same_record(whole, data: Path, tmp_path: Path) -> None:
    """Stock joint training: the losses of a stock Runner's first iterations, bit for bit."""
    work_dir, _, _ = whole
    cfg = staged_config(data, tmp_path / "joint", schedule__type="joint")
    record = train_stages(cfg)
    assert record.kind == "joint" and [s.name for s in record.stages] == ["joint"]
    (stage,) = record.stages
    assert set(stage.metrics) == {"AP", "AP50", "AR@10", "AR@100"}
    assert set(stage.curve[-1].losses) == {"rpn_cls", "rpn_loc", "roi_cls", "roi_loc"}
    assert record.unified is not None and record.unified.metrics == stage.metrics
    assert_same(weights(work_dir / "initial.pth"), weights(tmp_path / "joint/initial.pth"))
    # the same training by an ordinary Runner of the stock detector
    made = stage_config(cfg, StagedAdapter(cfg).plan.schedule.stages[0], None, 0)
    stock = toy_config("faster_rcnn", data, tmp_path / "stock", iterations=3)
    stock.train_dataloader = cfg.train_dataloader
    stock.optim_wrapper, stock.param_scheduler = cfg.optim_wrapper, made.param_scheduler
    stock.optim_wrapper.optimizer.lr = 0.01
    stock.default_hooks.lossweave = dict(type="lossweave.CombinerHook")
    runner_seed = torch.load(tmp_path / "joint/joint" / "iter_3.pth", weights_only=False)["meta"][
        "seed"
    ]
    stock.randomness = dict(seed=runner_seed)
    stock.load_from = str(tmp_path / "joint/initial.pth")
    runner = Runner.from_cfg(stock)
    runner.train()
    ours = weights(tmp_path / "joint/unified.pth")
    assert_same(ours, {n: t for n, t in runner.model.state_dict().items() if n in ours})


def test_two_networks_with_necks_of_their_own(make) -> None:
    """Only the backbone is shared: there is no one detector, and step 2 is not its end."""
    record = train_stages(make(schedule__shared=["backbone"], schedule__step4="matlab"))
    assert record.finished and record.unified is None
    assert "AP" in record.stages[-1].metrics
    assert record.stages[2].parts == {"trained": ["neck", "rpn_head"], "frozen": ["backbone"]}


def test_stops_after_step_2_with_a_combiner(make) -> None:
    cfg = make(schedule__stop_after=2)
    cfg.model.base_detector, cfg.model.type = cfg.model.type, "lossweave.CombinedLossDetector"
    cfg.model.combiner = dict(type="UncertaintyWeighting", lr=0.1)
    record = train_stages(cfg)
    assert [s.name for s in record.stages] == ["rpn1", "rcnn1"] and record.unified is None
    assert set(record.stages[-1].metrics) == {"AP", "AP50"}


def test_stages_of_ones_own(make) -> None:
    """A part of a part frozen, one term alone, all parts at once, and an RPN as the last."""
    below, budget = dict.fromkeys(BELOW, "initial"), dict(iterations=2, batch_size=2)
    head = dict(rpn_head="initial")
    stages = [
        dict(
            name="a", trained=[*BELOW, "rpn_head"], frozen=["backbone.layer4"], terms=["rpn_cls"],
            init=below | head, budget=budget,
        ),
        dict(
            name="b", trained=[*BELOW, "rpn_head", "roi_head"], budget=budget,
            init=dict.fromkeys((*BELOW, "rpn_head"), "a") | dict(roi_head="initial"),
        ),
        dict(
            name="c", trained=["rpn_head"], frozen=BELOW, budget=budget,
            init=dict.fromkeys((*BELOW, "rpn_head"), "b"),
        ),
    ]  # fmt: skip
    cfg = make(schedule__type="stages", evaluation__recall=[10])
    cfg.schedule = dict(type="stages", stages=stages)
    record = train_stages(cfg)
    assert set(record.stages[0].curve[-1].losses) == {"rpn_cls"}
    assert record.unified is not None and set(record.unified.metrics) == {"AP", "AP50", "AR@10"}
    folder = Path(cfg.work_dir)
    first, a = weights(folder / "initial.pth"), weights(folder / "a" / "final.pth")
    same = {n for n in a if torch.equal(first[n], a[n])}
    assert {n for n in a if n.startswith("backbone.layer4")} <= same
    assert "rpn_head.rpn_reg.weight" in same and "rpn_head.rpn_cls.weight" not in same
    unified, b, c = (weights(folder / p) for p in ("unified.pth", "b/final.pth", "c/final.pth"))
    for name, tensor in unified.items():
        assert torch.equal(tensor, c[name] if name.startswith("rpn_head") else b[name])


def test_vgg_keeps_its_first_blocks_and_takes_a_classifiers_layers(tmp_path: Path) -> None:
    net = VGG(depth=11, frozen_stages=2)
    frozen = {n for n, p in net.train().named_parameters() if not p.requires_grad}
    assert frozen == {f"features.{i}.{n}" for i in (0, 3) for n in ("weight", "bias")}
    state = {
        f"classifier.{index}.{name}": torch.rand(shape)
        for index, wide in ((0, 16), (3, 8))
        for name, shape in (("weight", (8, wide)), ("bias", (8,)))
    }
    torch.save(state, tmp_path / "vgg.pth")
    head = VGGBBoxHead(
        classifier=str(tmp_path / "vgg.pth"), in_channels=4, fc_out_channels=8, roi_feat_size=2,
        num_classes=3,
    )  # fmt: skip
    head.init_weights()
    for layer, index in zip(head.shared_fcs, (0, 3), strict=True):
        assert torch.equal(layer.weight, state[f"classifier.{index}.weight"])
        assert torch.equal(layer.bias, state[f"classifier.{index}.bias"])
    assert head(torch.rand(2, 4, 2, 2))[0].shape == (2, 4)


def test_the_stock_tool_runs_it(make, tmp_path: Path, monkeypatch) -> None:
    budget = dict(iterations=1, batch_size=2)
    cfg = make("stock_tool", schedule__rpn=budget, schedule__rcnn=budget, schedule__stop_after=2)
    path = tmp_path / "config.py"
    work_dir = str(tmp_path / "stock_tool")
    cfg.dump(str(path))
    tool = Path(mmdet.__file__).parent / ".mim" / "tools" / "train.py"
    monkeypatch.setattr(sys, "argv", [str(tool), str(path), "--work-dir", work_dir])
    monkeypatch.setenv("LOCAL_RANK", "0")
    runpy.run_path(str(tool), run_name="__main__")
    assert TrainingRecord.load(work_dir).finished


def test_lossweaves_tool_evaluates_on_val(make, tmp_path: Path) -> None:
    """The split that is meant where none is named, under the tool's own hook for checkpoints."""
    budget = dict(iterations=1, batch_size=2)
    cfg = make("tool", schedule__rpn=budget, schedule__rcnn=budget, schedule__stop_after=2)
    del cfg.evaluation["split"]
    cfg.dump(str(tmp_path / "config.py"))
    main.train([str(tmp_path / "config.py"), "--work-dir", str(tmp_path / "tool")])
    record = TrainingRecord.load(tmp_path / "tool")
    assert record.finished and set(record.stages[-1].metrics) == {"AP", "AP50"}


# ----------------------------------------------------------------------------- wrong input


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (dict(schedule__type="stages", schedule__stages=[]), "at least one stage"),
        (dict(schedule__step4="caffe"), "step4='caffe' should be one of"),
        (dict(schedule__rpn__iters=3), "no field 'iters'; did you mean 'iterations'"),
        (dict(proposals__nms_thr=0.7), "no field 'nms_thr'"),
        (dict(evaluation__split="dev"), "split='dev'"),
        (dict(model__type="CascadeRCNNX"), "'CascadeRCNNX' is no FasterRCNN"),
        (dict(model__roi_head=None), "no model.roi_head"),
        (dict(optim_wrapper__constructor="Mine"), "no counterpart of the constructor 'Mine'"),
    ],
)
def test_wrong_configs_end_before_training(make, overrides, message) -> None:
    cfg = make(**overrides)
    with pytest.raises(LossweaveError, match=message) as error:
        train_stages(cfg)
    assert "\n" not in str(error.value)
    assert not list(Path(cfg.work_dir).glob("*/iter_*.pth"))


def test_an_unknown_module_ends_before_training(make) -> None:
    stage = dict(
        name="one",
        trained=["backbone", "neck", "rpn_head"],
        frozen=["backbone.stem"],
        init=dict(backbone="initial", neck="initial", rpn_head="initial"),
        budget=dict(iterations=1),
    )
    cfg = make(schedule__type="stages", schedule__stages=[stage])
    with pytest.raises(LossweaveError, match=r"no module 'backbone\.stem'"):
        train_stages(cfg)


def test_transforms_that_cannot_be_followed_are_refused(make) -> None:
    cfg = make()
    cfg.train_dataloader.dataset.pipeline.insert(3, dict(type="RandomShift"))
    with pytest.raises(LossweaveError, match="cannot follow RandomShift"):
        train_stages(cfg)


# ---------------------------------------------------------------------------- big configs


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("faster-rcnn_demo", (400, 200, 400, 200)),
        ("faster-rcnn_screen", (400, 200, 400, 200)),
        ("faster-rcnn_bccd", (200, 100, 200, 100)),
        ("faster-rcnn_vgg16_voc07", (80_000, 40_000, 80_000, 40_000)),
        ("faster-rcnn_r50_fpn_coco", None),
    ],
)
def test_configs_build(name, steps, tmp_path: Path) -> None:
    cfg = Config.fromfile(resolve_config(f"lossweave::mmdet/alternating/{name}.py"))
    cfg.work_dir = str(tmp_path)
    schedule = StagedAdapter(cfg).plan.schedule
    assert steps is None or tuple(s.budget.iterations for s in schedule.stages) == steps
    assert schedule.unified
    for stage in schedule.stages:
        made = stage_config(cfg, stage, "p.npz" if stage.proposals else None, 0)
        with torch.device("meta"):
            model = MODELS.build(made.model)
        trained = {n.split(".")[0] for n, p in model.named_parameters() if p.requires_grad}
        assert trained == set(stage.trained)
