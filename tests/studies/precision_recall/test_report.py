"""Findings and report of detectors whose curves are known."""

from dataclasses import replace

import pytest
from helpers.curve_results import detector_result, several
from helpers.ledger_results import OTHER_MACHINE

from lossweave.errors import LossweaveError
from lossweave.studies.ledger.ledger import append
from lossweave.studies.precision_recall.cli import precision_recall
from lossweave.studies.precision_recall.findings import find
from lossweave.studies.precision_recall.report import detectors_markdown, verdict
from lossweave.studies.precision_recall.results import question, report
from lossweave.studies.results.remake import remake


def test_differences_are_paired_and_signed() -> None:
    found = find(several())
    assert found.names == ("faster", "cascade")
    apart = found.apart["cascade"]["recall at precision 0.9, IoU 0.5"]
    assert apart.count == 3 and apart.mean == pytest.approx(0.31 / 3) and apart.sign == 1
    assert found.apart["cascade"]["precision at recall 0.5, IoU 0.5"].mean == 0
    assert found.values["faster"]["AP"].mean == pytest.approx(0.61)
    assert found.values["faster"]["AP at IoU 0.5"].mean == pytest.approx((62 + 39 * 0.4) / 101)
    assert found.losses["cascade"]["s0.loss_cls"].mean == pytest.approx(0.1)


def test_another_machines_training_is_no_pair() -> None:
    results = several()
    results[-1] = replace(results[-1], **OTHER_MACHINE)
    assert find(results).apart["cascade"]["AP"].count == 2


def test_the_verdict_says_what_is_shown_and_what_is_not() -> None:
    said = verdict(find(several()))
    assert said.startswith("cascade beside faster: above in AP (+0.103 ±")
    alike = [detector_result(n, s, 60 + s * 3 % 7) for s in range(3) for n in ("faster", "other")]
    assert "above" not in verdict(find(alike)) and "no difference shown" in verdict(find(alike))


def test_the_row_of_questions_has_the_verdict_in_one_line() -> None:
    row = question(several(), "folder")
    assert row.answer == verdict(find(several())) and "\n" not in row.answer
    assert row.report == "[folder](folder/precision_recall.md)"
    assert row.effect == f"{find(several()).apart['cascade']['AP'].text()} (cascade)"


def test_the_report_is_made_from_the_ledger_alone_and_twice_the_same(tmp_path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    append(ledger, *several())
    assert remake([ledger], tmp_path) == []
    names = ("precision_recall.md", "precision_recall.json", "curves.png")
    first = {name: (tmp_path / name).read_bytes() for name in names}
    report(several(), str(tmp_path))
    assert first == {name: (tmp_path / name).read_bytes() for name in names}
    text = first["precision_recall.md"].decode()
    assert text.startswith("# Recall against precision: faster and cascade, 3 seeds")
    assert "| s0.loss_cls | - | 0.100 ± 0.000 |" in text
    assert "python tools/precision_recall.py" in text


def test_one_seed_has_no_interval() -> None:
    results = several(seeds=1)
    assert "one seed" in detectors_markdown(results, find(results), _FACTS)


_MACHINE = dict(cpu="a", cores=1, torch_threads=1, accelerator=None)
_FACTS = dict(command="c", date="2026-01-01", machine=_MACHINE)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--configs", "lossweave::mmdet/demo/ssd_demo.py"], "name two configs or more"),
        (["--configs", "a.py", "a.py"], "each once"),
        (["--configs", "x/a.py", "y/a.py"], "file names should differ"),
        (["--seeds", "-1"], "seeds from 0 on"),
        (["--jobs", "0"], "--jobs: 0 should be between 1 and"),
        (["--method", "Nope"], "Nope"),
        (["--configs", "no/a.py", "no/b.py"], "no/a.py"),
        (["--wrong"], "wrong"),
    ],
)
def test_wrong_input_is_one_line(words, said, tmp_path) -> None:
    with pytest.raises(LossweaveError, match=said) as found:
        precision_recall(["--work-dir", str(tmp_path), *words])
    assert "\n" not in str(found.value)


def test_a_plan_trains_nothing(tmp_path, capsys) -> None:
    precision_recall(["--work-dir", str(tmp_path), "--plan", "--seeds", "0"])
    said = capsys.readouterr().out
    assert "0 of 2 are in" in said
    assert all(f"lacking: {name}-rcnn_demo, Sum, seed 0" in said for name in ("faster", "cascade"))
