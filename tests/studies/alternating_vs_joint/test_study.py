"""Alternating against joint training: what is run, and what goes on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.synthetic_runs import alternating_record, joint_record

from lossweave.errors import LossweaveError
from lossweave.staged.stages import Budget
from lossweave.studies.alternating_vs_joint import study as study_module
from lossweave.studies.alternating_vs_joint.findings import ALTERNATING, EQUAL, JOINT, Study
from lossweave.studies.alternating_vs_joint.results import questions
from lossweave.studies.alternating_vs_joint.study import joint_options, run_study
from lossweave.studies.ledger.book import LedgerOptions
from lossweave.studies.ledger.ledger import read
from lossweave.studies.results.remake import remake


def test_equal_compute_keeps_the_proportions() -> None:
    options = joint_options(1000, Budget(100, 4, drops=(50, 80)), 8)
    assert options == ["schedule.joint.iterations=250", "schedule.joint.drops=[125,200]"]
    assert joint_options(1000, Budget(100), 8) == ["schedule.joint.iterations=125"]


def _config(folder: Path) -> Path:
    config = folder / "four.py"
    config.write_text(
        "model = dict(type='FasterRCNN', backbone={'depth': 50}, rpn_head={}, roi_head={})\n"
        "train_dataloader = dict(batch_size=2)\n"
        "some = dict(iterations=9)\n"
        "schedule = dict(type='four_step', rpn=some, rcnn=some, joint=some)\n"
    )
    return config


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
    config = _config(tmp_path)

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


def test_step_4_may_start_elsewhere_beside(trainings: list[list[str]], tmp_path: Path) -> None:
    config = _config(tmp_path)
    trainings.append([])  # none is cut off
    work = tmp_path / "work"
    runs = run_study(Study(str(config), (0, 1), str(work), equal=False, step4=("matlab",)))
    arm = "alternating step4=matlab"
    assert [run.arm for run in runs] == [ALTERNATING, JOINT, arm] * 2
    told = [words for words in trainings[1:] if "schedule.step4=matlab" in words]
    assert [Path(words[3]).name for words in told] == [
        "alternating_step4=matlab_seed0", "alternating_step4=matlab_seed1",
    ]  # fmt: skip
    text = (work / "alternating_vs_joint.md").read_text()
    row = "(alternating, step 4 as matlab starts it) - (alternating)"
    assert f"{row}: +0.000 ± 0.000 AP (no difference beyond the interval)." in text
    remake([work / "ledger.jsonl"], tmp_path / "again")
    assert (tmp_path / "again/alternating_vs_joint.md").read_text() == text
    results = read(work / "ledger.jsonl").results
    first, second = questions(results, "some")
    assert "joint training" in first.asked and "step 4 start" in second.asked
    assert "that it ends elsewhere is not shown" in second.answer


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


def test_the_ledger_alone_makes_the_report(trainings: list[list[str]], tmp_path: Path) -> None:
    config = _config(tmp_path)
    trainings.append([])  # none is cut off
    work = tmp_path / "work"
    study = Study(str(config), (0, 1), str(work))
    runs = run_study(study)
    assert len(trainings) == 7
    reading = read(work / "ledger.jsonl")
    assert [r.method for r in reading.results[:3]] == [ALTERNATING, JOINT, EQUAL]
    assert reading.results[0].scores == {"AP": 0.5, "AP50": runs[0].final["AP50"]}
    remake([work / "ledger.jsonl"], tmp_path / "again")
    elsewhere = replace(study, work_dir=str(tmp_path / "else"))
    again = run_study(replace(elsewhere, ledger=LedgerOptions((str(work / "ledger.jsonl"),))))
    assert len(trainings) == 7 and again == runs
    for folder in ("again", "else"):
        for name in ("alternating_vs_joint.md", "stages.png", "differences.png"):
            assert (tmp_path / folder / name).read_bytes() == (work / name).read_bytes(), name
    plan = replace(study, seeds=(0, 1, 2), ledger=LedgerOptions(plan=True))
    assert run_study(plan) == [] and len(trainings) == 7
