"""What the report of a comparison says."""

from dataclasses import replace

from helpers.comparison_scores import (
    METHODS,
    RATES,
    SWEEP,
    plain_scores,
    score_at,
    sweep_scores,
    swept_scores,
)

from lossweave.studies.compare.findings import Comparison, find
from lossweave.studies.compare.rates import best_rates, weights_at_edge
from lossweave.studies.compare.report import comparison_text, edges_text
from lossweave.studies.runs.method import Method, Score
from lossweave.utils.provenance import provenance


def _text(comparison: Comparison, scores: list[Score]) -> str:
    found = find(comparison.methods, scores, best_rates(scores))
    return comparison_text(comparison, found, provenance(comparison.command))


def _edges(comparison: Comparison, scores: list[Score]) -> str:
    found = find(comparison.methods, scores, best_rates(scores))
    at_edge = weights_at_edge(comparison.methods, "Sum")
    return edges_text(comparison, replace(found, tuned="Sum", weights_at_edge=at_edge))


def test_report_of_a_sweep() -> None:
    comparison = Comparison(METHODS, rates=RATES)
    text = _text(comparison, swept_scores())
    assert "No method but the sum was tuned" not in text
    assert "| method | 0.0005 | 0.001 | 0.002 |" in text
    assert "| MGDA | **0.580** | 0.570 | diverged |" in text
    assert "| method | rate | seeds |" in text
    # The tuned sum is the best over the seeds, each sum at its own rate.
    assert "| Sum weights=[2,1] (tuned sum) | 0.001 | 3 | 0.650 | 0.630 |" in text
    assert "| MGDA | 0.0005 | 3 | 0.570 | 0.550 |" in text
    assert "Sum (0.002, the largest), MGDA (0.0005, the smallest). Widen `--rates`" in text
    assert "The weights of Sum weights=[2,1] lie at the edge of those tried" in text


def test_report_names_what_trained_as_another_method() -> None:
    comparison = Comparison(METHODS, rates=RATES)
    twin = [replace(s, method="DWA") for s in swept_scores() if s.method == "Sum"]
    assert "under two names" not in _text(comparison, swept_scores())
    assert "under two names here: DWA (as Sum)." in _text(comparison, [*swept_scores(), *twin])


def test_report_says_where_no_edge_was_met() -> None:
    comparison = Comparison(METHODS, rates=(*RATES, 1e-4, 1e-2))
    wider = [*sweep_scores(), *(score_at(m, 0, rate, 0.1) for m in SWEEP for rate in (1e-4, 1e-2))]
    text = _edges(comparison, wider)
    assert text.startswith("No chosen rate lies at the edge")
    assert text.endswith("The tuned sum's weights lie between others that were tried.")
    single = Comparison((Method("Sum"), Method("MGDA")), rates=comparison.rates)
    assert "One weighting of the sum was tried only" in _edges(single, wider)


def test_report_of_what_is_not_finished() -> None:
    some = [s for s in swept_scores() if s.method != "MGDA" or (s.seed == 0 and s.rate != 2e-3)]
    text = _text(Comparison(METHODS, rates=RATES), some)
    assert "| MGDA | **0.580** | 0.570 | - |" in text
    assert "With one seed, so without an interval: MGDA." in text


def test_report_without_rates() -> None:
    methods = tuple(map(Method.parse, ("Sum", "Sum weights=[1,2]", "DWA")))
    text = _text(Comparison(methods), plain_scores())
    assert text.startswith("# 3 methods, 3 seeds\n")
    assert "No method but the sum was tuned." in text
    assert "rate" not in text.partition("Date:")[0]
    one = [score for score in plain_scores() if score.seed == 0]
    assert "+0.031 (one seed)" in _text(Comparison(methods, seeds=(0,)), one)
