"""Training in stages by a toy, without a framework: the order of things, and what is kept."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.staged_toy import IMAGES, ToyAdapter, toy_config

from lossweave.errors import LossweaveError, NonFiniteLossError
from lossweave.staged.proposal_writer import PassWriters
from lossweave.staged.record import TrainingRecord
from lossweave.staged.training import StagedTraining

STAGES = ("rpn1", "rcnn1", "rpn2", "rcnn2")
FILES = ("unified.pth", *(f"{stage}/final.pth" for stage in STAGES))


class _Stop(BaseException):
    """As an interruption is: no error that says something of the input."""


class _Moments:
    """Notes the moments of a training, and ends it in one that is not allowed yet."""

    def __init__(self, allowed: set[str] | None = None) -> None:
        self.seen: list[str] = []
        self._allowed = allowed

    def __call__(self, moment: str) -> None:
        self.seen.append(moment)
        if self._allowed is not None and moment not in self._allowed:
            raise _Stop(moment)


def _weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["model"]


def _same(one: Path, two: Path) -> bool:
    first, second = _weights(one), _weights(two)
    return first.keys() == second.keys() and all(torch.equal(first[n], second[n]) for n in first)


@pytest.fixture(scope="module", autouse=True)
def _quick() -> Iterator[None]:
    """Without what takes most of the time of so small trainings, which says nothing here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda file: None)
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainingRecord, list[str]]:
    """One training of four steps, never interrupted, and its moments in order."""
    work_dir, moments = tmp_path_factory.mktemp("staged") / "whole", _Moments()
    record = StagedTraining(ToyAdapter(work_dir, at=moments)).train()
    return work_dir, record, moments.seen


def test_the_order_of_calls(whole) -> None:
    """As the adapter's docstring has it."""
    moments = whole[2]
    kinds = [m for m in moments if not m.startswith(("fit", "save", "propose"))]
    recall, both = "ground_truth val", "evaluate whole"
    assert kinds == [
        "check", "dump_config", "init_weights fresh=False",
        recall, "evaluate rcnn1", recall, "init_weights fresh=True", both,
    ]  # fmt: skip
    assert moments.index("fit rpn1 2") < moments.index("propose rpn1 train 0")
    assert moments.index("propose rpn1 train 5") < moments.index("propose rpn1 val 0")
    assert moments.index("propose rpn1 val 5") < moments.index("fit rcnn1 0")
    assert sum(m.startswith("propose") for m in moments) == 4 * 6  # two passes a RPN, no more


def test_the_record(whole) -> None:
    work_dir, record, _ = whole
    assert TrainingRecord.load(work_dir) == record and record.finished
    assert [s.name for s in record.stages] == list(STAGES)
    assert [s.iterations for s in record.stages] == [3, 2, 3, 2]
    assert [set(s.metrics) for s in record.stages] == [
        {"AR@1", "AR@4"}, {"AP", "AP50", "AR@1", "AR@4"},
    ] * 2  # fmt: skip
    assert record.stages[0].proposals is not None and record.stages[0].proposals.images == 6
    assert record.stages[1].proposals is None
    assert record.unified is not None and record.unified.checkpoint == "unified.pth"
    assert record.unified.metrics == record.stages[-1].metrics


def test_where_the_weights_come_from(whole) -> None:
    work_dir = whole[0]
    first = _weights(work_dir / "initial.pth")
    for stage in ("rpn1", "rcnn1"):
        start = _weights(work_dir / stage / "initial.pth")
        assert all(torch.equal(start[name], first[name]) for name in start)
    below = [n for n in first if n.startswith(("backbone", "neck"))]
    rcnn1, rpn2, rcnn2 = (_weights(work_dir / f"{s}/final.pth") for s in STAGES[1:])
    assert all(torch.equal(rcnn1[n], rpn2[n]) and torch.equal(rcnn1[n], rcnn2[n]) for n in below)
    start = _weights(work_dir / "rcnn2/initial.pth")
    assert torch.equal(start["roi_head.fc.weight"], rcnn1["roi_head.fc.weight"])
    predictor = "roi_head.predictor.weight"  # afresh, in a draw of its own
    assert not torch.equal(start[predictor], rcnn1[predictor])
    assert not torch.equal(start[predictor], first[predictor])


def test_the_whole_detector_is_put_together_of_its_last_halves(whole) -> None:
    work_dir = whole[0]
    unified = _weights(work_dir / "unified.pth")
    rpn2, rcnn2 = (_weights(work_dir / f"{s}/final.pth") for s in ("rpn2", "rcnn2"))
    assert list(unified) == list(_weights(work_dir / "initial.pth"))
    assert all(
        torch.equal(unified[n], (rpn2 if n.startswith("rpn") else rcnn2)[n]) for n in unified
    )


def test_stopped_at_every_moment_it_ends_the_same(whole, tmp_path: Path) -> None:
    """In iterations, saves, passes, evaluations and between: each session gets one further."""
    work_dir, record, moments = whole
    broken, found, done = tmp_path / "broken", None, set[str]()
    while found is None:
        session = _Moments(set(done))
        try:
            found = StagedTraining(ToyAdapter(broken, at=session)).train(resume=bool(done))
        except _Stop as stop:
            done.add(str(stop))
            assert len(session.seen) < 12, f"little is done again before {stop}"
    assert done == set(moments) and len(done) > 40
    assert all(_same(work_dir / file, broken / file) for file in FILES)
    for one, two in zip(record.stages, found.stages, strict=True):
        assert (one.metrics, one.iterations) == (two.metrics, two.iterations)
        assert [p.losses for p in one.curve] == [p.losses for p in two.curve]
    assert not list(broken.rglob("*.tmp")) and not list(broken.rglob("*.partial.npz"))


def test_a_finished_training_is_left_alone(whole) -> None:
    work_dir, record, _ = whole
    moments = _Moments()
    again = ToyAdapter(work_dir, at=moments)
    assert StagedTraining(again).train(resume=True) == record
    assert "finished already" in again.lines[-1]
    assert moments.seen == []


@pytest.mark.parametrize(
    ("change", "resume", "message"),
    [
        (dict(), False, "go on with --resume"),
        (dict(config=toy_config(step4="matlab")), True, "another schedule"),
        (dict(config={**toy_config(), "proposals": {}}), True, "another proposals"),
        (dict(seed=1), True, "seed 0"),
        (dict(lr=0.5), True, r"another config: lr \(0\.05 then, 0\.5 now\)"),
    ],
)
def test_another_training_in_the_folder_is_refused(whole, change: Any, resume, message) -> None:
    with pytest.raises(LossweaveError, match=message):
        StagedTraining(ToyAdapter(whole[0], **change)).train(resume)


@pytest.mark.parametrize(
    ("schedule", "stages", "unified"),
    [
        (dict(type="joint", joint=dict(iterations=2)), ("joint",), True),
        (dict(stop_after=2), ("rpn1", "rcnn1"), False),
        (dict(rounds=2), (*STAGES, "rpn3", "rcnn3"), True),
        (dict(shared=["backbone"], step4="mx-rcnn"), STAGES, False),
    ],
)
def test_other_schedules(tmp_path: Path, schedule, stages, unified) -> None:
    record = StagedTraining(ToyAdapter(tmp_path / "run", toy_config(**schedule))).train()
    assert record.finished and tuple(s.name for s in record.stages) == stages
    assert (record.unified is not None) == unified == (tmp_path / "run/unified.pth").is_file()
    assert "AP" in record.stages[-1].metrics


def test_what_moves_a_frozen_part_is_found(tmp_path: Path) -> None:
    class Careless(ToyAdapter):
        def fit(self, stage, *arguments):
            state, meta = super().fit(stage, *arguments)
            if stage.name == "rpn2":
                state["backbone.1.running_mean"] = state["backbone.1.running_mean"] + 1e-3
            return state, meta

    with pytest.raises(LossweaveError, match=r"rpn2.*backbone\.1\.running_mean"):
        StagedTraining(Careless(tmp_path / "run")).train()
    assert not (tmp_path / "run/rpn2/final.pth").exists()


def test_a_module_that_is_none_ends_before_training(tmp_path: Path) -> None:
    stage = dict(
        name="one", trained=["backbone", "neck", "rpn_head"], frozen=["backbone.stem"],
        init=dict(backbone="initial", neck="initial", rpn_head="initial"),
        budget=dict(iterations=1),
    )  # fmt: skip
    adapter = ToyAdapter(tmp_path / "run", toy_config(type="stages", stages=[stage]))
    with pytest.raises(LossweaveError, match=r"no module 'backbone\.stem'"):
        StagedTraining(adapter).train()


def test_changed_weights_make_proposals_stale(tmp_path: Path) -> None:
    work_dir, moments = tmp_path / "run", _Moments()
    with pytest.raises(_Stop):
        StagedTraining(
            ToyAdapter(work_dir, at=lambda m: moments(m) or _stop_in(m, "fit rcnn1"))
        ).train()
    final = work_dir / "rpn1/final.pth"
    kept = torch.load(final)
    kept["model"]["rpn.bias"] += 1e-6
    torch.save(kept, final)
    with pytest.raises(LossweaveError, match=r"proposals\.npz is stale"):
        StagedTraining(ToyAdapter(work_dir)).train(resume=True)


def _stop_in(moment: str, wanted: str) -> None:
    if moment.startswith(wanted):
        raise _Stop(moment)


def test_a_file_that_is_more_than_weights_is_not_unpickled(tmp_path: Path) -> None:
    """A checkpoint of ours with a call in it: nothing is called, one line says what to do."""
    work_dir, touched = tmp_path / "run", tmp_path / "touched"
    with pytest.raises(_Stop):
        StagedTraining(ToyAdapter(work_dir, at=lambda m: _stop_in(m, "fit rcnn1"))).train()

    class Call:
        def __reduce__(self) -> Any:
            return touched.touch, ()

    torch.save({"model": {"rpn.bias": Call()}, "meta": {}}, work_dir / "rpn1/final.pth")
    with pytest.raises(LossweaveError, match=r"rpn1/final\.pth holds no weights") as error:
        StagedTraining(ToyAdapter(work_dir)).train(resume=True)
    assert not touched.exists() and "\n" not in str(error.value)


def test_half_a_file_is_named(tmp_path: Path) -> None:
    work_dir = tmp_path / "run"
    with pytest.raises(_Stop):
        StagedTraining(ToyAdapter(work_dir, at=lambda m: _stop_in(m, "fit rcnn1"))).train()
    final = work_dir / "rpn1/final.pth"
    final.write_bytes(final.read_bytes()[:1000])
    with pytest.raises(LossweaveError, match=r"rpn1/final\.pth holds no weights.*or not all"):
        StagedTraining(ToyAdapter(work_dir)).train(resume=True)


def test_weights_that_are_not_finite_end_the_training(tmp_path: Path) -> None:
    """Without a combiner nobody else looks at them."""
    config = toy_config(rpn=dict(iterations=40, lr=1000))
    with pytest.raises(NonFiniteLossError, match="stage 'rpn1' ended in weights that are not"):
        StagedTraining(ToyAdapter(tmp_path / "run", config)).train()
    assert not (tmp_path / "run/rpn1/final.pth").exists()


def test_a_stage_without_proposals_is_an_error(tmp_path: Path) -> None:
    class Silent(ToyAdapter):
        def make_proposals(self, stage, weights, split, targets, key):
            writers = PassWriters(targets, key)
            for image in range(IMAGES):
                writers.add(str(image), [(np.zeros((0, 4)), np.zeros(0))] * len(targets))
            writers.close()
            return writers.files()

    for resume in (False, True):
        with pytest.raises(LossweaveError, match="'rpn1' makes no proposals for any of 6 images"):
            StagedTraining(Silent(tmp_path / "run")).train(resume)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize(
    "moment", ["propose rpn1 train 3", "evaluate rcnn1", "init_weights fresh=True"]
)
def test_a_signal_outside_of_stages_stops_at_once(whole, tmp_path, number, moment) -> None:
    """In a pass, in an evaluation, between stages; what is done is kept."""

    def at(here: str) -> None:
        if here == moment:
            signal.raise_signal(number)

    work_dir = tmp_path / "run"
    adapter = ToyAdapter(work_dir, at=at)
    with pytest.raises(KeyboardInterrupt):
        StagedTraining(adapter).train()
    assert "go on with --resume" in adapter.lines[-1]
    left = _Moments()
    StagedTraining(ToyAdapter(work_dir, at=left)).train(resume=True)
    assert left.seen[1] == "dump_config" and moment in left.seen[:4]
    assert all(_same(whole[0] / file, work_dir / file) for file in FILES)
