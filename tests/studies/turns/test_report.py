"""The report on turns."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.turn_outcomes import LENGTHS, turn_outcomes

from lossweave.studies.turns.findings import (
    Turns,
    answer,
)
from lossweave.studies.turns.report import _as_dict, turns_markdown, write_turns
from lossweave.utils.provenance import provenance


def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turns = Turns(lengths=LENGTHS, work_dir=str(tmp_path))
    outcomes = turn_outcomes()
    steps = [{"one batch": {"0.01": 0.2 + seed / 10, "0.001": 0.02}} for seed in range(3)]
    found = answer(outcomes, LENGTHS, steps)
    write_turns(turns, outcomes, found, provenance(turns.command))
    text = (tmp_path / "turns.md").read_text()
    assert found.half["AP"].text() in text
    assert "turns of 1 end below the half-weighted sum (AP -0.049 ± 0.002)" in text
    assert "| one batch | 0.3000 ± 0.2484 | 0.0200 ± 0.0000 |" in text
    assert "cls on the test split is lower when both are trained: the other task helps" in text
    assert "loc on the test split is higher when both are trained: the other task is in" in text
    assert all((tmp_path / f"{name}.png").stat().st_size > 5000 for name in ("scores", "apart"))
    assert "Alternating schedule=[(cls,1),(loc,1)]" in capsys.readouterr().out
    one = [outcome for outcome in outcomes if outcome.score.seed == 0]
    said = turns_markdown(
        Turns((0,), LENGTHS), one, answer(one, LENGTHS), provenance(turns.command)
    )
    assert "AP -0.050 (one seed), no interval" in said and "end below" not in said
    assert "has no interval with one seed" in said and "helps" not in said


def test_a_study_that_was_stopped_has_a_report_without_distances(tmp_path: Path) -> None:
    turns = Turns(lengths=LENGTHS, work_dir=str(tmp_path))
    outcomes = [replace(outcome, apart={}) for outcome in turn_outcomes()[:-2]]
    write_turns(turns, outcomes, answer(outcomes, LENGTHS), provenance(turns.command))
    assert "(no samples of the weights were kept)" in (tmp_path / "turns.md").read_text()


def test_outcomes_are_json() -> None:
    content = json.loads(json.dumps(_as_dict(turn_outcomes()[0])))
    assert content["training_end"]["cls"] > 0 and content["held_out"]["loc"] == 0.4


def test_places_are_shown() -> None:
    outcomes = turn_outcomes()
    outcomes[0] = replace(outcomes[0], score=replace(outcomes[0].score, place="elsewhere"))
    turns = Turns(lengths=LENGTHS)
    text = turns_markdown(turns, outcomes, answer(outcomes, LENGTHS), provenance(turns.command))
    assert "- elsewhere: Sum, seed 0\n" in text and "of one place alone" in text
