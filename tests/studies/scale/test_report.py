"""Findings and report of curves over the scale of a loss that are known."""

from dataclasses import replace

import pytest
from helpers.arm_results import BY_RATIO, scale_results
from scipy import stats

from lossweave.errors import LossweaveError
from lossweave.studies.ledger.ledger import append
from lossweave.studies.ledger.result import Result
from lossweave.studies.results.remake import remake
from lossweave.studies.scale.cli import scale
from lossweave.studies.scale.findings import find_scale
from lossweave.studies.scale.report import questions, verdict
from lossweave.studies.scale.study import Sweep, arm_of, best_factors


def test_the_scale_matters_from_where_ap_falls() -> None:
    found = find_scale(scale_results())
    assert [curve.name for curve in found.curves] == [
        "AdamW, clipped", "SGD, clipped", "SGD, not clipped",
    ]  # fmt: skip
    curve = found.curves[0]
    assert [one.ratio for one in curve.scales] == sorted(BY_RATIO)
    assert curve.level() == (0.1, 1.0)
    assert curve.scales[3].share == pytest.approx(10 * 0.1 / (0.3 + 10 * 0.1))
    assert curve.main_from() == 10
    assert curve.half_at() == pytest.approx(3.0, rel=0.01)  # where b x 0.1 is 0.3
    wide = replace(curve, sd=0.1).level()  # what scatters more tells less
    assert wide == (0.01, 10.0)


def test_what_diverges_has_no_ap_and_its_rate_is_chosen_anew() -> None:
    found = find_scale(scale_results())
    last = found.curves[2].scales[-1]
    assert (last.mean, last.diverged) == (0.0, 2)
    tuned = found.curves[2].tuned[0]
    assert (tuned.ratio, tuned.factor) == (100.0, 0.01)
    assert tuned.gain.mean == pytest.approx(0.255)
    assert best_factors(scale_results())["AdamW", "on", 1.0] == 1.0
    said = verdict(found)
    assert "AdamW, clipped from b = 0.1 to 1, b x loc being the larger half" in said
    assert "diverging at b = 100" in said
    assert "takes back: AdamW, clipped, b = 100: rate x 0.01, +0.2" in said
    assert "SGD, not clipped, b = 100: rate x 0.01, +0.255 ± " in said


def test_a_curve_that_does_not_learn_tells_nothing() -> None:
    dead = [
        replace(r, scores={**r.scores, "test": 0.01})
        if (r.details["places"]["optimizer"], r.details["places"]["clip"]) == ("SGD", "off") else r
        for r in scale_results()
    ]  # fmt: skip
    said = verdict(find_scale(dead))
    assert "SGD, not clipped from" not in said
    assert "SGD, not clipped at the rate 0.005 does not learn at b = 1 (AP 0.010)" in said


def _at_one_too() -> list[Result]:
    """With two further rates at b = 1, of which none is better than its own."""
    ones = [r for r in scale_results(seeds=3) if r.details["places"]["b"] == 1]
    swept = [
        replace(
            one,
            rate=(one.rate or 1) / 10,
            scores={name: value - 0.1 for name, value in one.scores.items()},
            details={**one.details, "places": {**one.details["places"], "factor": 0.1}},
        )
        for one in ones
        if one.seed == 0
    ]
    return [*scale_results(seeds=3), *swept]


def test_rates_chosen_anew_are_compared_with_those_at_one() -> None:
    found = find_scale(_at_one_too())
    tuned = {one.ratio: one for one in found.curves[0].tuned}
    assert tuned[1.0].factor == 1 and not tuned[1.0].beside_one.count
    gap = tuned[100.0].beside_one
    assert gap.count == 3 and gap.mean == pytest.approx(BY_RATIO[100] + 0.2 - BY_RATIO[1])
    # 0.01 is the spread of every arm: seven arms of three seeds and one of one.
    half = tuned[100.0].half_width(gap)
    assert half == pytest.approx(stats.t.ppf(0.975, tuned[100.0].df) * 0.01 * (2 / 3) ** 0.5)
    (row,) = questions(_at_one_too(), "here")
    assert f"AdamW, clipped: b = 100 {gap.mean:+.3f} ± {half:.3f}" in row.effect
    said = verdict(find_scale(_at_one_too()))
    assert "With rates chosen anew, AP minus that at b = 1: AdamW, clipped, b = 100" in said
    assert row.answer.startswith("AP is not clearly below that at b = 1 for AdamW, clipped from")
    assert row.answer.count(". ") == 0  # one sentence


def test_a_curve_with_one_good_ratio_has_no_range() -> None:
    steep = [r for r in scale_results() if r.details["places"]["b"] in (1, 100)]
    assert "AdamW, clipped at no other b, b x loc" in verdict(find_scale(steep))


def test_a_gain_within_its_interval_is_not_shown() -> None:
    near = [
        replace(r, scores={**r.scores, "test": r.scores["test"] - 0.2 + 0.1 * (r.seed % 2)})
        if r.details["places"]["factor"] != 1 else r
        for r in scale_results(seeds=3)
    ]  # fmt: skip
    said = verdict(find_scale(near))
    assert "That it does is not shown: AdamW, clipped, b = 100: rate x 0.01" in said


def test_one_seed_needs_a_larger_difference() -> None:
    found = find_scale(scale_results(seeds=1))
    assert found.curves[0].level() == (0.1, 1.0)  # 0.005 less is not clear, 0.04 is
    (row,) = questions(scale_results(seeds=1), "here")
    assert row.effect == "-"


def test_the_report_is_made_from_the_ledger_alone_and_twice_the_same(tmp_path) -> None:
    append(tmp_path / "ledger.jsonl", *scale_results())
    made = []
    for _ in range(2):
        remake([tmp_path / "ledger.jsonl"], tmp_path)
        names = ("scale.md", "scale.json", "scale.png")
        made.append({name: (tmp_path / name).read_bytes() for name in names})
    assert made[0] == made[1]
    text = made[0]["scale.md"].decode()
    assert "## SGD, not clipped, rate 0.005" in text
    assert "| 100 | 0.000 ± 0.000 | 2 of 2 | - | x 0.01: 0.270, x 1: 0.020 | x 0.01 |" in text
    few = [r for r in scale_results() if r.details["places"]["b"] != 1]
    assert verdict(find_scale(few)) == "Not shown: no curve has a training at b = 1."


def test_an_arms_options() -> None:
    sweep = Sweep((1.0, 1000.0), {"SGD": 5e-3}, (1000.0,))
    arm = arm_of(sweep, "SGD", "off", 1000.0, 0.3)
    assert arm.method == "Sum weights=[1,1000]" and arm.rate == 0.0015
    assert arm.options[0] == "optim_wrapper.optimizer._delete_=True"
    assert arm.options[-1] == "optim_wrapper.clip_grad=None"
    assert arm_of(sweep, "SGD", "on", 1.0).method == "Sum"
    assert sweep.factors_at(1000.0) == (0.001, 0.3, 3.0) and sweep.factors_at(1.0) == ()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--ratios", "0.1", "10", "--tuned"], "--ratios: 1 should be among them"),
        (["--ratios", "1", "1"], "each once"),
        (["--ratios", "1", "--tuned", "10"], "--tuned: 10 should be one of the ratios"),
        (["--optimizers", "Adam"], "--optimizers: 'Adam' should be one of AdamW, SGD"),
        (["--rates", "1"], "as many"),
        (["--clips", "some"], "--clips"),
        (["--ratios", "-1"], "--ratios"),
    ],
)
def test_wrong_input_is_one_line(words, said, tmp_path) -> None:
    with pytest.raises(LossweaveError, match=said) as found:
        scale(["--work-dir", str(tmp_path), *words])
    assert "\n" not in str(found.value)


def test_a_plan_trains_nothing(tmp_path, capsys) -> None:
    words = ["--plan", "--seeds", "0", "--ratios", "1", "--tuned", "1", "--clips", "off",
             "--optimizers", "SGD", "--rates", "1e-3", "--factors", "0.1"]  # fmt: skip
    scale(["--work-dir", str(tmp_path), *words])
    said = capsys.readouterr().out
    assert "0 of 2 are in" in said and "lacking: optimizer-SGD_clip-off_b-1_factor-0.1" in said
