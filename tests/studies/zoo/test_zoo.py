"""The zoo: which models there are, how a trial goes, what is kept, and a short list of it."""

import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lossweave.combination import build_combination
from lossweave.errors import LossweaveError
from lossweave.host.paths import resolve_config
from lossweave.studies.zoo import study
from lossweave.studies.zoo.catalog import Entry, catalog, in_order, kind_of
from lossweave.studies.zoo.cli import zoo
from lossweave.studies.zoo.detectron2_models import Detectron2Model
from lossweave.studies.zoo.mmdet_batches import batch_for, class_count
from lossweave.studies.zoo.mmdet_models import MMDetectionModel, content
from lossweave.studies.zoo.report import zoo_report
from lossweave.studies.zoo.study import Zoo, run_zoo
from lossweave.studies.zoo.trial import COMBINERS, Trial, _load, _weights, try_model
from lossweave.utils.provenance import provenance

#: Small models of different kinds, and what their terms are.
SHORT_LIST = {
    "retinanet/retinanet_r18_fpn_1x_coco.py": ["cls", "loc"],
    "yolox/yolox_tiny_8xb8-300e_coco.py": ["cls", "loc"],
    "rtmdet/rtmdet-ins_tiny_8xb32-300e_coco.py": ["cls", "loc"],
    "detr/detr_r18_8xb2-500e_coco.py": ["cls", "loc"],
    "centernet/centernet_r18_8xb16-crop512-140e_coco.py": ["cls", "loc"],
    "free_anchor/freeanchor_r50_fpn_1x_coco.py": ["positive_bag", "negative_bag"],
}


@pytest.mark.parametrize("config", SHORT_LIST)
def test_a_model_of_the_zoo_takes_combiners(config: str) -> None:
    torch.set_num_threads(1)
    path = resolve_config(f"mmdet::{config}")
    trial = try_model(lambda: MMDetectionModel(path), [config])
    assert trial.stock == ""
    assert trial.results == dict.fromkeys(COMBINERS, "")
    assert trial.terms == SHORT_LIST[config] and trial.good


#: Detectron2's, likewise.
DETECTRON2 = {
    "COCO-Detection/retinanet_R_50_FPN_1x.yaml": ["cls", "loc"],
    "COCO-Detection/fcos_R_50_FPN_1x.py": ["cls", "loc"],
    "COCO-Keypoints/keypoint_rcnn_R_50_FPN_1x.yaml": ["cls", "loc"],
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml": ["cls", "loc"],
    "Misc/semantic_R_50_FPN_1x.yaml": ["sem_seg"],
}


@pytest.mark.parametrize("config", DETECTRON2)
def test_a_model_of_detectron2s_zoo_takes_combiners(config: str) -> None:
    torch.set_num_threads(1)
    model = Detectron2Model(f"detectron2://{config}")
    if "fcos" in config:  # detectron2 0.6 builds a GroupNorm that today's torch refuses
        model.cfg.model.head.norm = ""
    trial = try_model(lambda: model, [config])
    assert trial.stock == ""
    assert trial.results == dict.fromkeys(COMBINERS, "")
    assert trial.terms == DETECTRON2[config] and trial.good


def test_a_stock_model_that_does_not_train_is_no_failure(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("model = dict(type='NoSuchDetector', data_preprocessor=dict(type='X'))\n")
    trial = try_model(lambda: MMDetectionModel(str(path)), ["broken.py"])
    assert "NoSuchDetector" in trial.stock and "\n" not in trial.stock and trial.good


class Toy:
    """A model of two losses, the second of which is 0 on images of less than ``least`` pixels."""

    def __init__(self, least: int = 0, name: str = "layer") -> None:
        self.least, self.name = least, name

    def stock(self) -> nn.Module:
        return nn.ModuleDict({"layer": nn.Linear(2, 2)})

    def combined(self, combiner: str, **options: Any) -> nn.Module:
        before = torch.get_rng_state()
        model: Any = nn.ModuleDict({self.name: nn.Linear(2, 2)})
        assert torch.equal(before, torch.get_rng_state())
        model.loss_combination = build_combination(combiner, {"a": "loss_a", "b": "loss_b"})
        return model

    def losses(self, model: Any, size: int) -> tuple[dict[str, Any], Tensor]:
        made = model["layer"](torch.ones(1, 2))[0]
        losses = {"loss_a": made[0] ** 2, "loss_b": made[1] ** 2 * (size >= self.least)}
        if hasattr(model, "loss_combination"):
            return losses, model.loss_combination(losses, sum(losses.values()), model)
        return losses, sum(losses.values())


@pytest.mark.parametrize(("least", "size"), [(0, 64), (100, 128), (300, 128)])
def test_the_smallest_image_on_which_all_losses_are_there(least: int, size: int) -> None:
    trial = try_model(lambda: Toy(least), ["toy"])
    assert trial.size == size and trial.stock == ""
    assert trial.results == dict.fromkeys(COMBINERS, "") and trial.terms == ["a", "b"]


def test_weights_under_other_names_are_said() -> None:
    trial = try_model(lambda: Toy(name="other"), ["toy"])
    said = "its weights have other names than those of stock, e.g. other.weight"
    assert trial.results == dict.fromkeys(COMBINERS, said) and not trial.good


class _Checkpointed:
    """A detector whose backbone is under a reentrant activation checkpoint."""

    def __init__(self, advice: str = "use boundary='features' below the heads") -> None:
        self.toy, self.advice = Toy(), advice
        self.stock, self.losses = self.toy.stock, self.toy.losses

    def combined(self, combiner: str, **options: Any) -> nn.Module:
        if combiner == "PCGrad" and not options:
            raise LossweaveError(self.advice)
        assert options in ({}, {"boundary": "features"})
        return self.toy.combined(combiner)


def test_where_the_parameters_are_refused_and_the_features_named_these_are_tried() -> None:
    trial = try_model(_Checkpointed, ["toy"])
    assert trial.good and "use boundary='features'" in trial.features
    text = zoo_report("mmdet", [trial], [], {}, provenance("python tools/zoo.py"))
    assert "## Where gradients are combined at the features" in text and "| toy | Lossweave" in text
    other = try_model(lambda: _Checkpointed("no way"), ["toy"])
    assert not other.good and other.features == ""


# ------------------------------------------------------------------------------ catalog


class _Taught(nn.Linear):
    """A model with a teacher that is none of its submodules, as LAD and LD have it."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        object.__setattr__(self, "teacher", nn.Linear(2, 2))


def test_a_teacher_that_a_model_keeps_aside_is_the_same_for_all() -> None:
    one, other = _Taught(), _Taught()
    assert "model: teacher.weight" in _weights(one)
    assert _load(other, _weights(one)) == []
    assert torch.equal(one.teacher.weight, other.teacher.weight)
    assert torch.equal(one.weight, other.weight)
    assert _load(nn.Linear(2, 2), _weights(one)) == ["model: teacher.weight", "model: teacher.bias"]


def test_an_error_names_no_folder_of_the_machine() -> None:
    def read() -> Any:
        raise FileNotFoundError("no '/home/me/site-packages/mmdet/a.py'")

    assert try_model(read, ["toy"]).stock.startswith("FileNotFoundError: no 'mmdet/a.py' (")


def test_models_that_are_the_same_are_one_entry(tmp_path: Path) -> None:
    for name, text in {
        "a/one_r50.py": "model = dict(type='A')", "a/two_r50.py": "model = dict(type='A')\nx = 1",
        "a/other_r18.py": "model = dict(type='B')", "b/none.py": "x = 1",
        "b/wrong.py": "model = nowhere", "_base_/base.py": "model = dict(type='C')",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text + "\n")
    entries, without = catalog(tmp_path, content)
    assert sorted(entry.names for entry in entries) == [
        ("a/one_r50.py", "a/two_r50.py"), ("a/other_r18.py",)]  # fmt: skip
    assert without["b/none.py"] == "it has no model"
    assert without["b/wrong.py"].startswith("it cannot be read")


def test_small_ones_come_first_and_every_folder_has_one_early() -> None:
    names = ["a/x101-64x4d.py", "a/r50.py", "b/swin-l_r101.py", "a/r18.py", "c/r50.py", "c/r101.py"]
    ordered = [entry.names[0] for entry in in_order(Entry(n, (n,)) for n in names)]
    assert ordered == ["a/r18.py", "c/r50.py", "b/swin-l_r101.py", "a/r50.py", "c/r101.py",
                       "a/x101-64x4d.py"]  # fmt: skip


def test_every_kind_of_detector_comes_before_a_second_of_its_kind() -> None:
    kinds = {"a/r18.py": "x", "a/r50.py": "x", "a/giou_r50.py": "y", "b/r101.py": "x"}
    ordered = [entry.names[0] for entry in in_order(Entry(n, (n,), k) for n, k in kinds.items())]
    assert ordered == ["a/r18.py", "b/r101.py", "a/giou_r50.py", "a/r50.py"]


def test_what_a_kind_is() -> None:
    model = {"type": "A", "backbone": {"type": "R"}, "heads": [
        {"type": "H", "width": 3}, {"type": "H", "width": 5}, {"type": "I"}]}  # fmt: skip
    assert kind_of(model) == {"type": "A", "heads": [{"type": "H"}, {"type": "I"}]}
    assert kind_of({**model, "backbone": {"type": "S"}}) == kind_of(model)
    assert kind_of({**model, "heads": []}) != kind_of(model)
    yaml = {"META_ARCHITECTURE": "P", "ROI_HEADS": {"NAME": "S", "CLASSES": 5}, "MASK_ON": True}
    found = {"META_ARCHITECTURE": "P", "ROI_HEADS": {"NAME": "S"}, "MASK_ON": "True"}
    assert kind_of(yaml) == found


def test_a_batch_has_what_the_config_loads() -> None:
    model = {"type": "A", "data_preprocessor": {"type": "B"},
             "heads": [{"num_classes": 7}, {"num_classes": 3}]}  # fmt: skip
    assert class_count(model) == 3 and class_count({"num_classes": 80}) == 10
    plain = batch_for({"model": model}, 32)
    assert [tuple(image.shape) for image in plain["inputs"]] == [(3, 32, 32)] * 2
    assert "masks" not in plain["data_samples"][0].gt_instances
    assert int(torch.cat([s.gt_instances.labels for s in plain["data_samples"]]).max()) < 3
    load = [{"type": "LoadAnnotations", "with_mask": True, "with_seg": True}]
    full = batch_for({"model": model, "train_dataloader": {"pipeline": load}}, 32)
    assert full["data_samples"][0].gt_instances.masks.masks.shape == (3, 32, 32)
    assert full["data_samples"][0].gt_sem_seg.sem_seg.shape == (1, 32, 32)


# -------------------------------------------------------------------------------- study


@pytest.fixture
def three(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A zoo of three models, and the list of those that were tried."""
    entries = [Entry(f"/{n}", (n,)) for n in ("a/r18.py", "b/r50.py", "c/r101.py")]
    tried: list[str] = []

    def trial(entry: Entry, zoo: Zoo) -> Trial:
        tried.append(entry.names[0])
        if entry.names[0] == "b/r50.py":
            return Trial(list(entry.names), results={"Sum": "it differs"})
        return Trial(list(entry.names), results=dict.fromkeys(COMBINERS, ""), terms=["cls", "loc"])

    without = {"d/none.py": "no model"}
    monkeypatch.setattr(study, "_catalog", lambda framework, folder: (entries, without))
    monkeypatch.setattr(study, "_tried", trial)
    return tried


def test_it_goes_on_where_it_was(three: list[str], tmp_path: Path) -> None:
    run_zoo(Zoo(only=("a/",), work_dir=str(tmp_path)))
    assert three == ["a/r18.py"]
    trials = run_zoo(Zoo(work_dir=str(tmp_path)))
    assert three == ["a/r18.py", "b/r50.py", "c/r101.py"]
    assert [trial.good for trial in trials] == [True, False, True]
    run_zoo(Zoo(work_dir=str(tmp_path)))
    assert len(three) == 3
    run_zoo(Zoo(work_dir=str(tmp_path), again=True, only=("a/",)))
    assert len(three) == 3 and len((tmp_path / "zoo.jsonl").read_text().splitlines()) == 3
    run_zoo(Zoo(work_dir=str(tmp_path), again=True))
    assert three[3:] == ["b/r50.py"]
    assert "| b/r50.py | Sum: it differs |" in (tmp_path / "zoo.md").read_text()


def test_wrong_input_ends_in_one_line(three: list[str], tmp_path: Path) -> None:
    folder = ["--work-dir", str(tmp_path)]
    with pytest.raises(LossweaveError, match="no config's name contains nowhere"):
        zoo(["--only", "nowhere", *folder])
    with pytest.raises(LossweaveError, match="--seconds: 0 should be positive"):
        zoo(["--seconds", "0", *folder])
    with pytest.raises(LossweaveError, match=r"1 models are not as they should be, e\.g\. b/r50"):
        zoo(folder)
    assert three == ["a/r18.py", "b/r50.py", "c/r101.py"]


@pytest.mark.parametrize(
    ("behave", "why"),
    [
        (lambda: _busy(60), "stopped: it took more than 1 seconds"),
        (lambda: bytearray(2 * 2**30) and time.sleep(60), "stopped: it took more than 1 GB"),
        (lambda: os._exit(9), "its process ended with status 9"),
    ],
)
def test_a_process_that_goes_wrong_is_ended(
    monkeypatch: pytest.MonkeyPatch, behave: Any, why: str
) -> None:
    monkeypatch.setattr(study, "try_model", lambda read, names: behave())
    monkeypatch.setattr(study, "_memory", _above(study._memory(os.getpid())))
    seconds = 1.0 if "seconds" in why else 50.0
    trial = study._tried(Entry("/a", ("a",)), Zoo(seconds=seconds, gigabytes=1.0))
    assert trial.stock.startswith(why) and trial.seconds < 50


def _busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def _above(own: int) -> Any:
    """What a child holds beyond what it shares with this process."""
    measured = study._memory
    return lambda pid: max(0, measured(pid) - own)


def test_the_report() -> None:
    good = dict.fromkeys(COMBINERS, "")
    trials = [
        Trial(["a/r18.py", "a/again.py"], results=good, terms=["cls", "loc"], size=64),
        Trial(["a/x.py"], stock="ImportError: a | b"),
        Trial(["b/y.py"], results={**good, "PCGrad": "no gradient"}, terms=["pos", "neg", "mid"],
              size=224),
    ]  # fmt: skip
    origin = provenance("python tools/zoo.py")
    entries = [Entry(n[0], n, n[0]) for n in (*(tuple(t.configs) for t in trials), ("c.py",) * 5)]
    text = zoo_report("mmdet", trials, entries, {"z.py": "it has no model"}, origin)
    assert "4 of 9 configs with a model are tried (3 of 4 models, 3 of 4 kinds, " in text
    assert "); stock trains a step in 3; " in text
    assert "Width of the images, in models: 64 pixels in 1, 224 pixels in 1." in text
    assert "; in 2 of these all 3 combiners do" in text
    assert "| a | 3 | 2 | 2 | 2 | 2 | task |" in text
    assert "| b | 1 | 1 | 1 | 1 | 0 | loss (3) |" in text
    assert "| b/y.py | PCGrad: no gradient |" in text
    assert "| a/x.py | ImportError: a \\| b |" in text
    assert Trial(**json.loads(json.dumps(asdict(trials[0])))) == trials[0]
