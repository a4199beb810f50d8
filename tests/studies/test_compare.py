"""The comparison over seeds: which sum is the tuned one, and what the intervals say."""

import json

import pytest
from scipy import stats

from lossweave.errors import LossweaveError
from lossweave.studies.compare.rates import at_rates, best_rates, rate_edges, weights_at_edge
from lossweave.studies.compare.study import (
    Comparison,
    comparison_text,
    edges_text,
    run_comparison,
    summarize,
)
from lossweave.studies.report.paired import paired_interval
from lossweave.studies.report.plots import plot_scores
from lossweave.studies.runs.training import Method, Score, Trial


def _scores() -> list[Score]:
    # On validation the second sum is best; on test the first is.
    val = {"Sum": 0.50, "Sum weights=[1,2]": 0.55, "DWA": 0.52}
    test = {"Sum": 0.60, "Sum weights=[1,2]": 0.50, "DWA": 0.53}
    noise = {0: 0.00, 1: 0.02, 2: -0.01}
    wobble = {"DWA": {0: 0.001, 1: -0.001, 2: 0.0}}
    return [
        Score(m, s, val[m] + e, test[m] + e + wobble.get(m, {}).get(s, 0), 0.9)
        for m in val
        for s, e in noise.items()
    ]


def test_the_sum_is_tuned_on_validation_and_judged_on_test() -> None:
    tuned, rows = summarize(_scores())
    assert tuned == "Sum weights=[1,2]"
    by_method = {row["method"]: row for row in rows}
    assert by_method["DWA"]["difference"] == pytest.approx(0.03)
    # Paired: what a seed does to all methods cancels.
    assert by_method["DWA"]["half_width"] == pytest.approx(stats.t.ppf(0.975, 2) * 0.001 / 3**0.5)
    assert by_method["Sum"]["half_width"] == pytest.approx(0, abs=1e-9)
    assert by_method["DWA"]["seeds"] == 3


def test_interval_is_students() -> None:
    values = [0.1, 0.4, 0.2, 0.3]
    mean, half = paired_interval(values)
    low, high = stats.t.interval(0.95, 3, loc=mean, scale=stats.sem(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))
    assert paired_interval([0.1]) == (0.1, float("inf"))


@pytest.mark.parametrize(
    ("comparison", "message"),
    [
        (Comparison((Method("DWA"),)), "needs at least one Sum"),
        (Comparison((Method("Sum"), Method("Sum"))), "named twice"),
        (Comparison((Method("Sum"),), seeds=()), "needs a seed"),
        (Comparison((Method("Sum"),), rates=(1e-3, 0.0)), "--rates: 0 is not a learning rate"),
        (Comparison((Method("Sum"),), rates=(1e-3, -1.0)), "--rates: -1 is not"),
        (Comparison((Method("Sum"),), rates=(float("nan"), 1.0)), "--rates: nan is not"),
        (Comparison((Method("Sum"),), rates=(1e-3, 0.001)), "--rates: .* given twice"),
        (Comparison((Method("Sum"),), rates=(1e-3,)), "--rates: needs at least two"),
        (
            Comparison(
                (Method("Sum"),), rates=(1e-3, 1.0), options=("optim_wrapper.optimizer.lr=1",)
            ),
            "exclude each other",
        ),
        (
            Comparison(
                (Method("Sum"),), rates=(1e-3, 1.0), config="mmdet::_base_/default_runtime.py"
            ),
            "has no optim_wrapper.optimizer.lr",
        ),
    ],
)
def test_wrong_input(comparison, message) -> None:
    with pytest.raises(LossweaveError, match=message) as found:
        run_comparison(comparison)
    assert "\n" not in str(found.value)


_RATES = (1e-3, 5e-4, 2e-3)
_METHODS = tuple(map(Method.parse, ("Sum", "Sum weights=[1,2]", "Sum weights=[2,1]", "MGDA")))
#: AP on the validation split at each of the rates; on the test split 0.02 less.
_SWEEP = {
    "Sum": (0.60, 0.50, 0.65),
    "Sum weights=[1,2]": (0.64, 0.55, 0.60),
    "Sum weights=[2,1]": (0.66, 0.60, 0.66),
    "MGDA": (0.57, 0.58, 0.00),
}


def _score(method: str, seed: int, rate: float, val: float) -> Score:
    details = {"diverged": "a loss is not finite"} if val == 0 else {}
    return Score(method, seed, val, max(0.0, val - 0.02), 0.9, details, rate)


def _sweep() -> list[Score]:
    return [
        _score(method, 0, rate, val)
        for method, found in _SWEEP.items()
        for rate, val in zip(_RATES, found, strict=True)
    ]


def _swept() -> list[Score]:
    chosen = best_rates(_sweep())
    return [
        *_sweep(),
        *(_score(m, s, chosen[m], max(_SWEEP[m]) - 0.01 * s) for s in (1, 2) for m in _SWEEP),
    ]


def test_every_method_has_its_best_rate_on_validation() -> None:
    chosen = best_rates(_sweep())
    assert chosen == {
        "Sum": 2e-3,
        "Sum weights=[1,2]": 1e-3,
        "Sum weights=[2,1]": 1e-3,  # as good as 2e-3, and smaller
        "MGDA": 5e-4,
    }
    assert best_rates(_sweep()[::-1]) == chosen
    # Only the first seed has further rates, so choosing again changes nothing.
    assert best_rates(_swept()) == chosen
    assert best_rates(_scores()) == {}


def test_edges_of_the_sweep() -> None:
    assert rate_edges(_sweep()) == {"Sum": "largest", "MGDA": "smallest"}
    assert rate_edges(_swept()) == rate_edges(_sweep())
    # An edge is that of the rates at which this method was trained.
    assert rate_edges([*_sweep(), _score("Sum", 0, 4e-3, 0.1)]) == {"MGDA": "smallest"}


@pytest.mark.parametrize(
    ("methods", "tuned", "expected"),
    [
        (("Sum", "Sum weights=[1,2]", "Sum weights=[2,1]"), 0, False),
        (("Sum", "Sum weights=[1,2]", "Sum weights=[2,1]"), 2, True),
        (("Sum", "Sum weights=[1,2]", "DWA"), 0, True),
        (("Sum", "DWA"), 0, None),
        (("Sum weights=[2,2]", "Sum"), 0, None),  # the same weighting at another scale
        (("Sum weights=3", "Sum weights=[1,2]", "Sum weights=[2,1]"), 0, False),
        (("Sum", "Sum weights={'cls':2}"), 0, None),
        (("Sum weights=[2,1,1]", "Sum weights=[1,2,1]", "Sum weights=[1,1,2]"), 0, True),
    ],
)
def test_edge_of_the_weights(methods, tuned, expected) -> None:
    parsed = [Method.parse(text) for text in methods]
    assert weights_at_edge(parsed, methods[tuned]) is expected


def test_report_of_a_sweep() -> None:
    comparison = Comparison(_METHODS, rates=_RATES)
    text = comparison_text(comparison, _swept())
    assert "No method but the sum was tuned" not in text
    assert "| method | 0.0005 | 0.001 | 0.002 |" in text
    assert "| MGDA | **0.580** | 0.570 | diverged |" in text
    assert "| method | rate | seeds |" in text
    # The tuned sum is the best over the seeds, each sum at its own rate.
    assert "| Sum weights=[2,1] (tuned sum) | 0.001 | 3 | 0.650 | 0.630 |" in text
    assert "| MGDA | 0.0005 | 3 | 0.570 | 0.550 |" in text
    assert "Sum (0.002, the largest), MGDA (0.0005, the smallest). Widen `--rates`" in text
    assert "The weights of Sum weights=[2,1] lie at the edge of those tried" in text


def test_report_says_where_no_edge_was_met() -> None:
    comparison = Comparison(_METHODS, rates=(*_RATES, 1e-4, 1e-2))
    wider = [*_sweep(), *(_score(m, 0, rate, 0.1) for m in _SWEEP for rate in (1e-4, 1e-2))]
    text = edges_text(comparison, wider, "Sum")
    assert text.startswith("No chosen rate lies at the edge")
    assert text.endswith("The tuned sum's weights lie between others that were tried.")
    single = Comparison((Method("Sum"), Method("MGDA")), rates=comparison.rates)
    assert "One weighting of the sum was tried only" in edges_text(single, wider, "Sum")


def test_report_of_what_is_not_finished() -> None:
    some = [s for s in _swept() if s.method != "MGDA" or (s.seed == 0 and s.rate != 2e-3)]
    text = comparison_text(Comparison(_METHODS, rates=_RATES), some)
    assert "| MGDA | **0.580** | 0.570 | - |" in text
    assert "With one seed, so without an interval: MGDA." in text


def test_report_without_rates() -> None:
    methods = tuple(map(Method.parse, ("Sum", "Sum weights=[1,2]", "DWA")))
    text = comparison_text(Comparison(methods), _scores())
    assert text.startswith("# 3 methods, 3 seeds\n")
    assert "No method but the sum was tuned." in text
    assert "rate" not in text.partition("Date:")[0]
    one = [score for score in _scores() if score.seed == 0]
    assert "+0.031 (one seed)" in comparison_text(Comparison(methods, seeds=(0,)), one)


def test_trainings_at_several_rates_have_folders_of_their_own() -> None:
    plain = Trial(Method("Sum"), 0, "none.py", "out", ("a=1",))
    assert (plain.folder.name, plain.settings) == ("Sum_seed0", ("a=1",))
    rated = Trial(Method("Sum"), 0, "none.py", "out", ("a=1",), rate=5e-4)
    assert rated.folder.name == "Sum_seed0_lr0.0005"
    assert rated.settings == ("a=1", "optim_wrapper.optimizer.lr=0.0005")


def test_a_sweep_trains_the_further_seeds_at_the_chosen_rates(tmp_path, monkeypatch) -> None:
    asked: list[Trial] = []

    def train(trial: Trial) -> Score:
        asked.append(trial)
        assert trial.rate is not None
        place = _RATES.index(trial.rate)
        return _score(trial.method.label, trial.seed, trial.rate, _SWEEP[trial.method.label][place])

    monkeypatch.setattr("lossweave.studies.compare.study.train_and_test", train)
    comparison = Comparison(_METHODS, seeds=(7, 8), work_dir=str(tmp_path), rates=_RATES)
    scores = run_comparison(comparison)
    assert [(t.seed, t.rate) for t in asked[:5]] == [(7, 1e-3)] * 4 + [(7, 5e-4)]
    assert {t.method.label: t.rate for t in asked[12:]} == best_rates(scores)
    assert [t.seed for t in asked[12:]] == [8] * 4
    assert len(at_rates(scores, best_rates(scores))) == 8
    record = json.loads((tmp_path / "comparison.json").read_text())
    assert len(record["scores"]) == 16 and all(score["rate"] for score in record["scores"])
    assert record["chosen_rates"]["MGDA"] == 5e-4 and record["sum_weights_at_edge"] is True
    assert (tmp_path / "scores.png").stat().st_size > 5000


def test_methods_are_parsed() -> None:
    with pytest.raises(LossweaveError, match="did you mean 'Sum'"):
        Method.parse("Summ")
    assert Method.parse("DWA period=50 temperature=1.0").folder == "DWA_period-50_temperature-1.0"


def test_plot(tmp_path) -> None:
    path = plot_scores(_scores(), "Sum", tmp_path / "scores.png")
    assert path.stat().st_size > 5000
