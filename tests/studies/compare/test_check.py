"""Rows of a ledger trained again: what agrees, what does not, what is learned of other code."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from lossweave.errors import LossweaveError
from lossweave.studies.compare.check import _repeats, noise_of
from lossweave.studies.compare.cli import compare
from lossweave.studies.ledger import append, read
from lossweave.studies.ledger.identity import code_of_today, machine_of_today
from lossweave.studies.ledger.result import Code, Machine
from lossweave.studies.runs.method import Score, Trial

HERE = machine_of_today(1)


class _Trainings:
    """Trainings that are done at once, by a code and on a machine of their own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[Trial] = []
        self.code, self.machine, self.shift = Code("0.1.0", "aaa"), HERE, 0.0
        for module in ("runs.results", "compare.check"):
            monkeypatch.setattr(f"lossweave.studies.{module}.train_and_test", self)

    def __call__(self, trial: Trial) -> Score:
        self.done.append(trial)
        test = 0.4 + 0.01 * trial.seed + self.shift
        details = dict(code=asdict(self.code), machine=asdict(self.machine))
        return Score(trial.method.label, trial.seed, 0.5, test, 0.8, details, trial.rate)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> _Trainings:
    made = _Trainings(monkeypatch)
    _call(tmp_path, "--methods", "Sum", "DWA period=9", "--seeds", "0", "1")
    made.done.clear()
    return made


def _call(tmp_path: Path, *words: str) -> None:
    compare(["--work-dir", str(tmp_path), *words])


def _check(tmp_path: Path, count: int) -> None:
    _call(tmp_path, "--check", str(count))


def test_rows_that_come_out_again(
    trainings: _Trainings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _check(tmp_path, 3)
    assert len(trainings.done) == 3 and len({(t.method, t.seed) for t in trainings.done}) == 3
    assert all(Path(t.work_dir) == tmp_path / "again" for t in trainings.done)
    assert "3 rows of 4 agree, to the last digit" in capsys.readouterr().out
    assert len(read(tmp_path / "ledger.jsonl").results) == 4


def test_on_the_same_machine_one_digit_is_too_many(trainings: _Trainings, tmp_path: Path) -> None:
    trainings.shift = 0.001
    with pytest.raises(LossweaveError, match="other scores than in the ledger") as found:
        _check(tmp_path, 1)
    assert "\n" not in str(found.value)


def test_on_another_machine_the_spread_over_seeds_is_allowed(
    trainings: _Trainings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = read(tmp_path / "ledger.jsonl").results
    assert noise_of(rows) == pytest.approx(3 * 0.01 / 2**0.5)
    assert noise_of(rows[:1]) == 0.05
    trainings.machine, trainings.shift = Machine("another", 1), 0.02
    _check(tmp_path, 4)
    said = "4 rows of 4 agree, 0 of them to the last digit, the others within 0.021 AP"
    assert said in capsys.readouterr().out
    trainings.shift = 0.03
    with pytest.raises(LossweaveError, match="other scores"):
        _check(tmp_path, 4)


def test_a_gpu_need_not_repeat_itself_to_the_last_digit() -> None:
    card = replace(HERE, accelerator="A card")
    assert _repeats(HERE, HERE) and not _repeats(card, card) and not _repeats(HERE, card)


def test_a_repetition_by_other_code_is_a_result(trainings: _Trainings, tmp_path: Path) -> None:
    trainings.code = Code("0.1.0", "bbb")
    _check(tmp_path, 4)
    results = read(tmp_path / "ledger.jsonl").results
    assert [r.code.commit for r in results] == ["aaa"] * 4 + ["bbb"] * 4


def test_what_other_code_repeated_is_trained_anew(trainings: _Trainings, tmp_path: Path) -> None:
    for code, kept in ((Code("0.1.0", "old"), False), (code_of_today(), True)):
        _check(tmp_path, 1)
        folder = trainings.done[-1].folder
        folder.mkdir(parents=True)
        (folder / "score.json").write_text(json.dumps({"details": {"code": asdict(code)}}))
        _check(tmp_path, 1)
        assert folder.exists() == kept
        shutil.rmtree(folder, ignore_errors=True)


def test_wrong_input_of_a_check(trainings: _Trainings, tmp_path: Path) -> None:
    for words, message in (
        ([], "needs --methods to compare, or --check"),
        (["--check", "1", "--methods", "Sum"], "needs --methods to compare, or --check"),
        (["--check", "0"], "--check: 0 is not a number of rows above 0"),
        (["--check", "1", "--ledger", str(tmp_path / "none.jsonl")], "no result of a comparison"),
    ):
        with pytest.raises(LossweaveError, match=message):
            _call(tmp_path, *words)
    row = read(tmp_path / "ledger.jsonl").results[0]
    append(tmp_path / "old.jsonl", replace(row, config_hash="0" * 16, code=code_of_today()))
    with pytest.raises(LossweaveError, match=r"retinanet_demo\.py is .* today and was 0000"):
        _call(tmp_path, "--check", "1", "--ledger", str(tmp_path / "old.jsonl"))
    assert not trainings.done
