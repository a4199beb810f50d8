"""Findings and report of detectors whose curves are known."""

from dataclasses import replace

import pytest
from helpers.curve_results import detector_result, several
from helpers.ledger_results import OTHER_CODE, OTHER_MACHINE

from lossweave.errors import LossweaveError
from lossweave.studies.ledger.ledger import append
from lossweave.studies.ledger.result import Result
from lossweave.studies.precision_recall.cli import precision_recall
from lossweave.studies.precision_recall.findings import find
from lossweave.studies.precision_recall.rates import at_own_rate, find_tuned
from lossweave.studies.precision_recall.report import detectors_markdown, verdict
from lossweave.studies.precision_recall.results import questions, report
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
    (row,) = questions(several(), "folder")
    assert row.answer == verdict(find(several())) and "\n" not in row.answer
    assert row.report == "[folder](folder/precision_recall.md)"
    assert row.effect == f"{find(several()).apart['cascade']['AP'].text()} AP"


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
        (["--rates", "0"], "--rates"),
        (["--rates", "1e-3", "1e-3"], "a learning rate is given twice"),
        (["--rates", "2e-3"], "0.002 is that of lossweave::mmdet/demo/faster-rcnn_demo.py"),
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
    precision_recall(["--work-dir", str(tmp_path), "--plan", "--rates", "1e-3"])
    said = capsys.readouterr().out
    assert "0 of 8 are in" in said and "cascade-rcnn_demo, Sum, seed 0, lr 0.001 (" in said
    assert "then further seeds at the rates that these choose" in said


def _at_rates() -> list[Result]:
    """Seed 0 at two rates: the cascade's best is its own, the reference's is 0.001."""
    swept = [
        detector_result(name, 0, knee, rate=rate)
        for rate, name, knee in (
            (0.001, "faster", 65), (0.001, "cascade", 68),
            (0.01, "faster", 50), (0.01, "cascade", 40),
        )
    ]  # fmt: skip
    return [*several(), *swept, *(detector_result("faster", s, 65 + s, rate=0.001) for s in (1, 2))]


def test_each_detector_at_its_best_rate() -> None:
    results = [replace(r, scores={**r.scores, "val": r.scores["test"]}) for r in _at_rates()]
    tuned = find_tuned(results)
    assert tuned is not None
    assert tuned.chosen == {"faster": "0.001", "cascade": "the config's"}
    assert list(tuned.tried["faster"].values()) == pytest.approx([0.60, 0.65, 0.50])
    gap = tuned.found.apart["cascade"]["AP"]
    assert gap.count == 3 and gap.mean == pytest.approx(0.05 + 0.01 / 3)
    (row,) = questions(results, "folder")
    assert row.effect == f"+0.103 ± 0.014; {gap.text()}, each at the best of several rates AP"
    text = detectors_markdown(results, find(at_own_rate(results)), _FACTS, tuned)
    assert "| faster | 0.600 | 0.650 | 0.500 | 0.001 |" in text
    assert "| faster, seed 2, rate 0.001 |" in text
    assert find_tuned(several()) is None


def test_the_reference_is_the_first_config_at_any_rate() -> None:
    results = _at_rates()
    moved = [r for r in results if r.config.endswith("cascade.py")]
    others = [r for r in results if not r.config.endswith("cascade.py")]
    tuned = find_tuned([others[0], *moved, *others[1:]])
    assert tuned is not None and tuned.found.names[0] == "faster"


def test_a_repeated_training_makes_pairs_across_two_states_of_the_code() -> None:
    swept = [replace(r, **OTHER_CODE) if r.rate else r for r in _at_rates()]
    apart = find_tuned(swept)
    assert apart is not None and apart.found.apart["cascade"]["AP"].count == 0
    again = replace(swept[0], **OTHER_CODE)
    paired = find_tuned([*swept, again])
    assert paired is not None and paired.found.apart["cascade"]["AP"].count == 3
    found = find(at_own_rate([*swept, again]), all_known=[*swept, again])
    assert found.values["faster"]["AP"].count == 3
