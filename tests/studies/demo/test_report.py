"""What the demo's report must say."""

from helpers.synthetic_runs import record

from lossweave.studies import RunRecord
from lossweave.studies.demo.report import comparison_table, write_report

FACTS = dict(
    config="some.py",
    seed=5,
    machine="a machine",
    versions={"torch": "9.9"},
    command="python tools/demo.py",
    data="Data: 4 train pictures.",
    window=20,
)


def test_report() -> None:
    runs = [record("Sum", ap=0.5), record("DWA", ap=0.53)]
    text = write_report(runs, {"terms": "terms.png", "weights": "w.png", "sheet": "s.png"}, FACTS)
    for said in (
        "# Sum and DWA",
        "seed (5)",
        "| Sum | 0.500 | 0.700 | 0.250 |",
        "| DWA | 0.530 |",
        "cannot rank the combiners",
        "0.030 AP",
        "(terms.png)",
        "(w.png)",
        "(s.png)",
        "train DWA",
        "a machine",
        "torch 9.9",
        "Data: 4 train pictures.",
    ):
        assert said in text, said


def test_report_without_pictures_or_metrics() -> None:
    run = RunRecord("Sum", 10, {}, {}, 0.5, 0.0)
    text = write_report([run], {}, FACTS)
    assert "png" not in text.replace("record.json", "") and "nan" not in text


def test_table_of_runs_with_different_terms() -> None:
    table = comparison_table([record("Sum", ("cls",)), record("DWA", ("cls", "loc"))])
    header, _, first, second = table.splitlines()
    assert "weight loc" in header
    assert first.split()[-1] == "-" and second.split()[-1] == "3.000"
