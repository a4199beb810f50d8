"""What the report admits, and its pictures."""

from collections.abc import Sequence
from pathlib import Path

from helpers.staged_runs import staged_runs

from lossweave.studies.alternating_vs_joint.findings import (
    ALTERNATING,
    JOINT,
    Findings,
    Run,
    Study,
    find,
)
from lossweave.studies.alternating_vs_joint.plots import plot_stages
from lossweave.studies.alternating_vs_joint.report import study_markdown, verdict
from lossweave.utils.provenance import provenance


def _markdown(study: Study, runs: Sequence[Run], found: Findings) -> str:
    return study_markdown(study, runs, found, provenance(study.command))


def test_the_same_start_is_checked() -> None:
    runs = staged_runs()
    assert find(runs).same_start is None
    begun = [Run(r.arm, r.seed, r.record, f"seed {r.seed}") for r in runs]
    assert find(begun).same_start is True
    other = [*begun[:-1], Run(runs[-1].arm, runs[-1].seed, runs[-1].record, "another")]
    assert "initial weights of a seed's trainings differ" in _markdown(
        Study("four.py"), other, find(other)
    )


def test_undertrained_is_said() -> None:
    assert not find(staged_runs()).undertrained
    low = find(staged_runs({0: 0.48, 1: 0.2, 2: 0.48}))
    assert low.undertrained == {JOINT: [1]}
    assert "undertrained" in verdict(low) and "(seed 1)" in verdict(low)
    study = Study("four.py")
    assert "undertrained" in _markdown(study, staged_runs({0: 0.1, 1: 0.2, 2: 0.2}), low)
    assert "undertrained" not in _markdown(study, staged_runs(), find(staged_runs()))


def test_report_states_the_interval_and_the_record() -> None:
    found = find(staged_runs())
    text = _markdown(Study("four.py", jobs=2), staged_runs(), found)
    assert found.differences["after step 4 - joint"]["AP"].text() in text
    assert "no difference beyond the interval" in text
    assert "0.97 to 1.60" in text and "1.76, sd 0.16, 1.60 to 1.92" in text
    assert "is above that range here" in text
    assert "2 trainings shared the machine" in text
    assert "3200 image passes, 1600 of them over a frozen backbone" in text


def test_one_seed_is_no_evidence() -> None:
    runs = [run for run in staged_runs() if run.seed == 0]
    found = find(runs)
    text = _markdown(Study("four.py", seeds=(0,)), runs, found)
    assert "one seed says nothing" in text and "beyond the interval" not in text


def test_two_steps_only(tmp_path: Path) -> None:
    runs = staged_runs()
    for run in runs:
        if run.arm == ALTERNATING:
            del run.record.stages[2:]
            run.record.unified = None
    found = find(runs)
    assert "after step 2 - joint" in found.differences and not found.recall
    assert "after step 4 - joint" not in found.differences
    assert "Differences" in _markdown(Study("two.py"), runs, found)
    plot_stages(runs, tmp_path / "stages.png")
