"""Alternating against joint training at several lengths, from fabricated trainings."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.synthetic_runs import alternating_record, joint_record

from lossweave.errors import LossweaveError
from lossweave.staged.record import UnifiedRecord
from lossweave.studies.alternating_vs_joint import study as study_module
from lossweave.studies.alternating_vs_joint.configs import read_staged
from lossweave.studies.alternating_vs_joint.findings import ALTERNATING, JOINT, Run, Study
from lossweave.studies.alternating_vs_joint.lengths import find_lengths, length_options
from lossweave.studies.alternating_vs_joint.lengths_report import lengths_verdict
from lossweave.studies.alternating_vs_joint.study import run_study
from lossweave.studies.ledger.book import LedgerOptions
from lossweave.studies.ledger.ledger import read
from lossweave.studies.results.remake import REPORTS, remake

_CONFIG = (
    "model = dict(type='FasterRCNN', backbone={'depth': 50}, rpn_head={}, roi_head={})\n"
    "train_dataloader = dict(batch_size=2)\n"
    "some = dict(iterations=90, batch_size=4, drops=[60], warmup=9)\n"
    "schedule = dict(type='four_step', rpn=some, rcnn=some, joint=some)\n"
)


def _length(factor: int, gaps: list[float], speed: float = 1.0) -> list[Run]:
    """Trainings of a length with these gaps, a seed each; joint AP is 0.5."""
    runs = []
    for seed, gap in enumerate(gaps):
        four = alternating_record(seed, (0.4, 0.5 + gap), speed * factor)
        joint = joint_record(seed, 0.5, 200.0 * factor, 1400 * factor)
        for stage in four.stages:
            stage.optimizer_steps, stage.iterations = 400 * factor, 200 * factor
        joint.stages[0].iterations = 100 * factor
        runs += [Run(ALTERNATING, seed, four), Run(JOINT, seed, joint)]
    return runs


def test_a_gap_that_closes_is_told_from_one_that_stays_or_widens() -> None:
    gaps = [-0.08, -0.06, -0.07]
    closing = [_length(4, [gap + 0.06 for gap in gaps]), _length(1, gaps), _length(2, [-0.04] * 3)]
    found = find_lengths(closing)
    assert [one.passes for one in found.each] == [1400, 2800, 5600]
    assert found.slope.mean == pytest.approx(0.03) and found.slope.count == 3
    assert found.each[0].name == "/ 100" and found.each[2].name == "/ 25"
    text = lengths_verdict(found)
    assert "-0.070 ± 0.025 at the papers' / 100" in text and "the gap closes" in text
    assert "no difference is shown" in text
    staying = find_lengths([_length(1, gaps), _length(2, [gap + e for gap, e in
                                                          zip(gaps, (0.02, -0.02, 0.01),
                                                              strict=True)])])  # fmt: skip
    assert "that it changes is not shown" in lengths_verdict(staying)
    assert "still ends below joint" in lengths_verdict(staying)
    widening = find_lengths([_length(1, gaps), _length(2, [gap - 0.05 for gap in gaps])])
    assert "the gap widens" in lengths_verdict(widening)


def test_what_is_not_finished_is_not_taken_for_more() -> None:
    only = find_lengths([_length(1, [-0.1, -0.2])])
    assert only.slope.count == 0 and "says nothing about others" in lengths_verdict(only)
    begun = find_lengths([_length(1, [-0.1, -0.2]), _length(2, [-0.1])[:1]])
    assert [one.passes for one in begun.each] == [1400]
    one_seed = find_lengths([_length(1, [-0.1, -0.2]), _length(2, [-0.05])])
    assert one_seed.slope.count == 1 and "one seed of the longest" in lengths_verdict(one_seed)
    assert "that it changes is not shown" in lengths_verdict(one_seed)
    assert "nothing can be said" in lengths_verdict(find_lengths([]))


def test_a_detector_that_finds_nothing_has_an_ap_of_0() -> None:
    runs = _length(1, [-0.1])
    runs[0].record.unified = UnifiedRecord("unified.pth", {})
    (one,) = find_lengths([runs]).each
    assert one.ends == {0: (0.0, 0.5)}
    assert "-0.500 (one seed)" in lengths_verdict(find_lengths([runs]))


def test_the_time_ratio_is_of_median_iterations() -> None:
    (one,) = find_lengths([_length(1, [-0.1])]).each
    # 200 iterations of .4 s twice and of .2 s twice, and 20 s of proposals, over 100 of 1.6 s.
    assert one.ratio[0] == pytest.approx(260 / 160)


def test_a_length_multiplies_drops_and_warm_ups(tmp_path: Path) -> None:
    config = tmp_path / "four.py"
    config.write_text(_CONFIG)
    base = read_staged(str(config))
    assert length_options(base, 1) == []
    doubled = read_staged(str(config), length_options(base, 2))
    for budget in (doubled.schedule["rcnn2"].budget, doubled.joint["joint"].budget):
        assert (budget.iterations, budget.drops, budget.warmup) == (180, (120,), 18)
        assert budget.batch_size == 4
    stages = "stages=[dict(name='one', trained=['backbone', 'rpn_head', 'roi_head'], "
    stages += "budget=some, init=dict(backbone='initial', rpn_head='initial', "
    stages += "roi_head='initial'))]"
    config.write_text(_CONFIG.replace("type='four_step'", f"type='stages', {stages}"))
    with pytest.raises(LossweaveError, match="only a schedule of type 'four_step'"):
        length_options(read_staged(str(config)), 2)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The calls of a study whose trainings write records at once."""
    called: list[list[str]] = []

    def call(words: list[str], log: Path, jobs: int) -> None:
        called.append(list(words))
        folder = Path(words[words.index("--work-dir") + 1])
        seed = int(folder.name.rpartition("seed")[2])
        factor = next(f for f in (2, 4, 1) if f"x{f}" in folder.name or f == 1)
        four, joint = (run.record for run in _length(factor, [-0.1 / factor] * (seed + 1))[-2:])
        (four if folder.name.startswith(ALTERNATING) else joint).save(folder)

    monkeypatch.setattr(study_module, "call", call)
    return called


def test_one_ledger_and_one_report_over_lengths(
    trainings: list[list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, work = tmp_path / "four.py", tmp_path / "work"
    config.write_text(_CONFIG)
    study = Study(str(config), (0, 1), str(work), equal=False)
    run_study(study)
    before = (work / "ledger.jsonl").read_bytes()
    run_study(replace(study, lengths=(4, 1, 2)))
    assert len(trainings) == 12  # four of the config's own length stand in the ledger already
    assert (work / "ledger.jsonl").read_bytes().startswith(before)
    # The shortest first.
    folders = [Path(words[words.index("--work-dir") + 1]).name for words in trainings]
    assert folders[4:8] == [f"{arm}_x2_seed{seed}" for seed in (0, 1)
                            for arm in (ALTERNATING, JOINT)]  # fmt: skip
    assert "schedule.joint.iterations=180" in trainings[4]
    assert "schedule.joint.drops=[240]" in trainings[8]
    reading = read(work / "ledger.jsonl")
    assert {r.budget.get("joint", 90) for r in reading.results} == {90, 180, 360}
    assert len({r.setting for r in reading.results}) == 3
    text = (work / "lengths.md").read_text()
    assert "the gap closes" in text and "a doubling" in text and "## Every seed" in text
    assert len(json.loads((work / "lengths.json").read_text())["findings"]["each"]) == 3
    assert (work / "lengths.png").stat().st_size > 5000
    (row,) = REPORTS["alternating_vs_joint"].questions(reading.results, "work")  # type: ignore[misc]
    assert row.answer in text and "(work/lengths.md)" in row.report
    remake([work / "ledger.jsonl"], tmp_path / "again")
    for name in ("lengths.md", "lengths.json", "lengths.png"):
        assert (tmp_path / "again" / name).read_bytes() == (work / name).read_bytes(), name
    capsys.readouterr()
    plan = replace(study, lengths=(1, 8), ledger=LedgerOptions(plan=True))
    assert run_study(plan) == [] and len(trainings) == 12
    assert "alternating, seed 0, 720 joint iterations" in capsys.readouterr().out
    with pytest.raises(LossweaveError, match="each one once"):
        run_study(replace(study, lengths=(2, 2)))
