"""Reports from ledgers alone: the same bytes, nothing mixed."""

import json
import re
import shutil
from pathlib import Path

import pytest
from helpers.ledger_results import OTHER_CODE, OTHER_MACHINE, result

from lossweave.errors import LossweaveError
from lossweave.studies.ledger.ledger import append, read
from lossweave.studies.results.cli import results
from lossweave.studies.results.remake import remake, remake_all, write_together

_AP = {"Sum": 0.50, "Sum weights=[1,2]": 0.48, "DWA": 0.53}
_NOISE = (0.0, 0.02, -0.01)


def _fill(
    path: Path, seeds: tuple[int, ...] = (0, 1, 2), methods: tuple[str, ...] = (*_AP,)
) -> None:
    append(path, *(result(m, s, _AP[m] + _NOISE[s]) for s in seeds for m in methods))


def _files(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


def test_a_report_made_twice_has_the_same_bytes(tmp_path: Path) -> None:
    _fill(tmp_path / "study" / "ledger.jsonl")
    assert remake_all(tmp_path) == []
    first = _files(tmp_path / "study")
    names = {"ledger.jsonl", "comparison.json", "comparison.md", "scores.png", "differences.png"}
    assert set(first) == names
    results([str(tmp_path)])
    assert _files(tmp_path / "study") == first
    text = first["comparison.md"].decode()
    assert text.startswith("# 3 methods, 3 seeds\n") and "| DWA | 3 | 0.553 | 0.533 |" in text
    assert "Date: 2026-11-25. Code: lossweave 0.1.0 at aaa. Machine: A CPU, 2 cores" in text
    assert "several machines" not in text


def test_two_ledgers_make_one_report(tmp_path: Path) -> None:
    mine, theirs = tmp_path / "mine.jsonl", tmp_path / "theirs.jsonl"
    _fill(mine, methods=("Sum", "Sum weights=[1,2]"))
    _fill(theirs, methods=("DWA",))
    results(["--ledger", str(mine), str(theirs), "--work-dir", str(tmp_path / "both")])
    assert "+0.030" in (tmp_path / "both" / "comparison.md").read_text()


@pytest.mark.parametrize("place", [OTHER_CODE, OTHER_MACHINE])
def test_another_place_is_shown_and_makes_no_pair(tmp_path: Path, place: dict) -> None:
    path = tmp_path / "ledger.jsonl"
    _fill(path, methods=("Sum", "Sum weights=[1,2]"))
    append(path, result("DWA", 0, 0.53), result("DWA", 1, 0.99, **place))
    append(path, result("MGDA", 0, 0.9, **place), result("MGDA", 1, 0.9, **place))
    remake([path], tmp_path)
    rows = {
        row["method"]: row
        for row in json.loads((tmp_path / "comparison.json").read_text())["summary"]
    }
    assert rows["DWA"]["seeds"] == 2 and rows["DWA"]["unpaired"] == [1]
    assert rows["DWA"]["difference"] == pytest.approx(0.03)  # of seed 0 alone
    assert rows["MGDA"]["difference"] is None and rows["MGDA"]["unpaired"] == [0, 1]
    text = (tmp_path / "comparison.md").read_text()
    assert "## Trained by several states of the code, or on several machines" in text
    shown = result("DWA", 1, **place).place
    assert f"- {shown}: DWA, seed 1; MGDA, seed 0; MGDA, seed 1" in text
    assert "DWA, seed 1; MGDA, seeds 0 1." in text and "| no pair |" in text
    assert "Without a pair of one code and machine: MGDA." in text


def test_a_pair_is_found_among_several_places(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    append(path, result("Sum", 0, 0.5), result("DWA", 0, 0.9, **OTHER_CODE))
    append(path, result("Sum", 0, 0.6, **OTHER_CODE))
    remake([path], tmp_path)
    summary = json.loads((tmp_path / "comparison.json").read_text())["summary"]
    (dwa,) = [row for row in summary if row["method"] == "DWA"]
    assert dwa["difference"] == pytest.approx(0.3) and dwa["unpaired"] == []
    assert (
        "Every difference is of two results of one place."
        in (tmp_path / "comparison.md").read_text()
    )


def test_remarks_are_handed_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "ledger.jsonl"
    _fill(path)
    with open(path, "ab") as file:
        file.write(path.read_bytes().split(b"\n")[0] + b"\n" + b'{"torn')
    results([str(tmp_path)])
    out = capsys.readouterr().out
    assert "is there already" in out and "torn, left out" in out
    assert len(read(path).results) == 9


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "no results"),
        ([result(), result(study="turns")], "several studies"),
        ([result(study="other")], "no report is known for the study 'other'"),
        ([result(), result(config_hash="other")], "not to be compared: 1 of some.py"),
        ([result(), result(budget={"iterations": 9})], "not to be compared"),
    ],
)
def test_what_makes_no_report(tmp_path: Path, lines: list, message: str) -> None:
    path = tmp_path / "ledger.jsonl"
    path.touch()
    if lines:
        append(path, *lines)
    with pytest.raises(LossweaveError, match=message) as refused:
        remake([path], tmp_path)
    assert "\n" not in str(refused.value)


def test_the_results_of_the_docs_make_their_reports_byte_for_byte(tmp_path: Path) -> None:
    """Texts and numbers; pictures depend on the fonts of the machine, and are there."""
    docs = Path(__file__).parents[3] / "docs" / "results"
    ledgers = sorted(docs.rglob("ledger.jsonl"))
    assert len(ledgers) >= 6
    for ledger in ledgers:
        folder = tmp_path / ledger.parent.relative_to(docs)
        remake([ledger], folder)
        made = _files(folder)
        for name, content in made.items():
            kept = (ledger.parent / name).read_bytes()
            assert kept if name.endswith(".png") else kept == content, (ledger.parent.name, name)


def test_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(LossweaveError, match="no ledger"):
        remake([tmp_path / "none.jsonl"], tmp_path)
    with pytest.raises(LossweaveError, match=r"no ledger\.jsonl below"):
        results([str(tmp_path)])
    with pytest.raises(LossweaveError, match="belong together"):
        results(["--ledger", "a.jsonl"])


def test_what_the_docs_comparisons_say_together_is_made_byte_for_byte(tmp_path: Path) -> None:
    """In the project's own pages, too: their blocks are emptied first."""
    project, root = Path(__file__).parents[3], tmp_path / "docs" / "results"
    root.mkdir(parents=True)
    written = ("README.md", "docs/guides/which_weights.md", "docs/results/README.md")
    for name in written:
        text, blocks = re.subn(
            r"(, by make results -->\n).*?(<!-- end of)",
            r"\1\2",
            (project / name).read_text(),
            flags=re.DOTALL,
        )
        assert blocks
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    write_together(sorted((project / "docs" / "results").rglob("ledger.jsonl")), root)
    made = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.md")}
    assert made == {*written, "docs/results/tiers.md"}
    for name in made:
        assert (tmp_path / name).read_bytes() == (project / name).read_bytes(), name


def test_other_results_leave_the_pages_around_them_alone(tmp_path: Path) -> None:
    block = "<!-- tiers, by make results -->\n<!-- end of tiers -->\n"
    (tmp_path / "README.md").write_text(block)
    append(tmp_path / "work" / "mine" / "one" / "ledger.jsonl", result(), result(seed=1))
    remake_all(tmp_path / "work" / "mine")
    assert (tmp_path / "README.md").read_text() == block


@pytest.mark.parametrize("page", ["README.md", "docs/results/README.md"])
def test_no_result_is_typed_by_hand(page: str) -> None:
    """What is not made from ledgers holds no score, interval or ratio; settings are 1e-3 or 440."""
    text = (Path(__file__).parents[3] / page).read_text()
    text = re.sub(r"<!-- [^\n]*, by make results -->.*?<!-- end of", "", text, flags=re.DOTALL)
    typed = re.findall(r"[^\n]*(?:±|[+\u2212-]0\.\d|\b0\.\d\d\d)[^\n]*", text)
    assert not typed


def test_comparisons_of_two_detectors_are_put_together(tmp_path: Path) -> None:
    methods = ("Sum", "Sum weights=[1,2]", "DWA", "FAMO")
    for tier, change in (("small", {}), ("large", dict(config="b.py", config_hash="f" * 16))):
        rows = [
            result(m, s, 0.5 - 0.02 * i + 0.001 * s * i, **change)
            for i, m in enumerate(methods)
            for s in (0, 1)
        ]
        append(tmp_path / tier / "ledger.jsonl", *rows)
    docs = Path(__file__).parents[3] / "docs" / "results"
    (tmp_path / "simulate").mkdir()
    shutil.copy(docs / "simulate" / "simulate.json", tmp_path / "simulate")
    remake_all(tmp_path)
    text = (tmp_path / "questions.md").read_text()
    assert "| Under Sum the step grows as the losses' scale to the power of 1.00, and" in text
    assert "exploded under plain descent: Sum 0 of 18, SquaredSum 12 of 18" in text
    assert "Of 3 methods, corrected for their number, better than the tuned sum (Sum): none" in text
    assert "| 8 trainings, 0.3 hours | `python tools/compare.py --methods Sum DWA` |" in text
    # Four methods in one order have a probability of 1 / 12 by chance.
    assert "The ranks of large are not shown to predict those of small (tau +1.00)." in text
    assert "| large, small | 4 | +1.00 |" in (tmp_path / "tiers.md").read_text()
    assert (tmp_path / "tiers.png").stat().st_size > 5000
