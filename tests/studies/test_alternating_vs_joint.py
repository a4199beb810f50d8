"""Alternating against joint training: what is run, what the seeds say, what the report admits."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.synthetic_runs import alternating_record, joint_record
from PIL import Image
from scipy import stats

from lossweave.errors import LossweaveError
from lossweave.staged.stages import Budget
from lossweave.studies.alternating_vs_joint import study as study_module
from lossweave.studies.alternating_vs_joint.plots import plot_differences, plot_stages
from lossweave.studies.alternating_vs_joint.report import study_markdown, verdict
from lossweave.studies.alternating_vs_joint.study import (
    ALTERNATING,
    EQUAL,
    JOINT,
    Run,
    Study,
    find,
    joint_options,
    run_study,
)

_ENDS = {0: 0.50, 1: 0.53, 2: 0.49}  # AP after step 4
_JOINT = {0: 0.48, 1: 0.50, 2: 0.48}


def _runs(joint: dict[int, float] = _JOINT) -> list[Run]:
    runs = []
    for seed, ap in _ENDS.items():
        four = alternating_record(seed, (ap - 0.04, ap), speed=1 + seed / 10)
        runs.append(Run(ALTERNATING, seed, four))
        runs.append(Run(JOINT, seed, joint_record(seed, joint[seed])))
        equal = joint_record(seed, ap - 0.001 * seed, seconds=500, images=3200)
        runs.append(Run(EQUAL, seed, equal))
    return runs


def test_differences_are_paired_by_seed() -> None:
    found = find(_runs())
    paired = [_ENDS[s] - _JOINT[s] for s in _ENDS]
    ap = found.differences["after step 4 - joint"]["AP"]
    assert ap.mean == pytest.approx(np.mean(paired))
    low, high = stats.t.interval(0.95, 2, loc=np.mean(paired), scale=stats.sem(paired))
    assert (ap.mean - ap.half_width, ap.mean + ap.half_width) == pytest.approx((low, high))
    gain = found.differences["after step 4 - after step 2"]
    assert gain["AP"].mean == pytest.approx(0.04) and gain["AP"].half_width < 1e-9
    assert found.differences["after step 2 - joint"]["AP"].mean == pytest.approx(ap.mean - 0.04)


def test_time_counts_proposal_passes_and_no_evaluation() -> None:
    found = find(_runs())
    # 100 + 100 + 50 + 50 of training and two passes of 10, times 1, 1.1, 1.2, over 200.
    whole = found.ratios["all steps / joint"]
    assert (whole.low, whole.mean, whole.high) == pytest.approx((1.6, 1.76, 1.92))
    assert found.ratios["steps 1 and 2 / joint"].low == pytest.approx(210 / 200)
    # 200 iterations of .4 s twice and of .2 s twice, and 20 to 24 s, over 100 of 1.6 s.
    median = found.ratios["all steps, by median iterations, / joint"]
    assert (median.low, median.high) == pytest.approx((260 / 160, 264 / 160))
    assert found.ratios["all steps / joint-equal"].low == pytest.approx(320 / 500)


def test_passes_recall_and_memory() -> None:
    found = find(_runs())
    assert found.image_passes == {ALTERNATING: 3200, JOINT: 1400, EQUAL: 3200}
    assert found.frozen_passes == 1600
    assert found.proposal_passes[ALTERNATING] == 400
    assert found.optimizer_steps[ALTERNATING] == 800 + 400 + 800 + 400
    assert found.recall["AR@300"].mean == pytest.approx(0.1)
    assert found.peaks[ALTERNATING].mean == 900 * 2**20


def test_the_same_start_is_checked() -> None:
    runs = _runs()
    assert find(runs).same_start is None
    begun = [Run(r.arm, r.seed, r.record, f"seed {r.seed}") for r in runs]
    assert find(begun).same_start is True
    other = [*begun[:-1], Run(runs[-1].arm, runs[-1].seed, runs[-1].record, "another")]
    assert "initial weights of a seed's trainings differ" in study_markdown(
        Study("four.py"), other, find(other)
    )


def test_undertrained_is_said() -> None:
    assert not find(_runs()).undertrained
    low = find(_runs({0: 0.48, 1: 0.2, 2: 0.48}))
    assert low.undertrained == {JOINT: [1]}
    assert "undertrained" in verdict(low) and "(seed 1)" in verdict(low)
    study = Study("four.py")
    assert "undertrained" in study_markdown(study, _runs({0: 0.1, 1: 0.2, 2: 0.2}), low)
    assert "undertrained" not in study_markdown(study, _runs(), find(_runs()))


def test_report_states_the_interval_and_the_record() -> None:
    found = find(_runs())
    text = study_markdown(Study("four.py", jobs=2), _runs(), found)
    assert found.differences["after step 4 - joint"]["AP"].text() in text
    assert "no difference beyond the interval" in text
    assert "0.97 to 1.60" in text and "1.76, sd 0.16, 1.60 to 1.92" in text
    assert "is above that range here" in text
    assert "2 trainings shared the machine" in text
    assert "3200 image passes, 1600 of them over a frozen backbone" in text


def test_one_seed_is_no_evidence() -> None:
    runs = [run for run in _runs() if run.seed == 0]
    found = find(runs)
    text = study_markdown(Study("four.py", seeds=(0,)), runs, found)
    assert "one seed says nothing" in text and "beyond the interval" not in text


def test_two_steps_only(tmp_path: Path) -> None:
    runs = _runs()
    for run in runs:
        if run.arm == ALTERNATING:
            del run.record.stages[2:]
            run.record.unified = None
    found = find(runs)
    assert "after step 2 - joint" in found.differences and not found.recall
    assert "after step 4 - joint" not in found.differences
    assert "Differences" in study_markdown(Study("two.py"), runs, found)
    plot_stages(runs, tmp_path / "stages.png")


def test_pictures(tmp_path: Path) -> None:
    for draw in (plot_stages, plot_differences):
        picture = np.asarray(Image.open(draw(_runs(), tmp_path / "new.png")).convert("RGB"))
        assert picture.shape[0] > 200 and picture.std() > 5


def test_equal_compute_keeps_the_proportions() -> None:
    options = joint_options(1000, Budget(100, 4, drops=(50, 80)), 8)
    assert options == ["schedule.joint.iterations=250", "schedule.joint.drops=[125,200]"]
    assert joint_options(1000, Budget(100), 8) == ["schedule.joint.iterations=125"]


# ------------------------------------------------------------------ running and resuming


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The calls of a study whose trainings write records at once; the first try is cut off."""
    called: list[list[str]] = []

    def call(words: list[str], log: Path, jobs: int) -> None:
        called.append(list(words))
        folder = Path(words[words.index("--work-dir") + 1])
        seed = int(folder.name.rpartition("seed")[2])
        four = folder.name.startswith(f"{ALTERNATING}_")
        record = alternating_record(seed, (0.4, 0.5)) if four else joint_record(seed, 0.45)
        record.finished = len(called) > 1
        record.save(folder)
        if not record.finished:
            raise LossweaveError("stopped")

    monkeypatch.setattr(study_module, "call", call)
    return called


def test_a_study_goes_on_and_grows(
    trainings: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "four.py"
    config.write_text(
        "train_dataloader = dict(batch_size=2)\n"
        "model = dict(type='FasterRCNN', backbone={'depth': 50}, rpn_head={}, roi_head={})\n"
        "some = dict(iterations=9)\n"
        "schedule = dict(type='four_step', rpn=some, rcnn=some, joint=some)\n"
    )

    def run(seeds: int, *options: str) -> None:
        study = Study(
            str(config),
            tuple(range(seeds)),
            str(tmp_path / "out"),
            options=("schedule.rpn.iterations=5", *options),
            equal=False,
        )
        run_study(study)

    with pytest.raises(LossweaveError, match="stopped"):
        run(1)
    run(1)
    assert len(trainings) == 3 and all("--resume" in words for words in trainings)
    assert "schedule.type=joint" in trainings[2] and "schedule.type=joint" not in trainings[1]
    assert all("randomness.seed=0" in words for words in trainings)
    # What the joint arm needs stands after the user's options, which may say otherwise.
    at = [trainings[2].index(word) for word in ("schedule.rpn.iterations=5", "schedule.type=joint")]
    assert at == sorted(at)
    run(2)
    assert len(trainings) == 5  # two for the new seed, none again
    content = json.loads((tmp_path / "out" / "alternating_vs_joint.json").read_text())
    assert len(content["runs"]) == 4 and content["findings"]["final"][JOINT]["AP"]["count"] == 2
    assert (tmp_path / "out" / "stages.png").stat().st_size > 5000
    with pytest.raises(LossweaveError, match="other settings"):
        run(2, "model.backbone.depth=18")
    assert "alternating" in capsys.readouterr().out


def test_wrong_input(tmp_path: Path) -> None:
    config = tmp_path / "plain.py"
    config.write_text("train_dataloader = dict(batch_size=2)\n")
    for study, message in [
        (Study(str(config)), "no `schedule`"),
        (Study(str(config), seeds=()), "needs a seed"),
        (Study(str(tmp_path / "none.py")), "there is no config"),
    ]:
        with pytest.raises(LossweaveError, match=message):
            run_study(study)
