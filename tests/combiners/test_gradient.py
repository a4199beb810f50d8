"""What all combiners of gradients share: oracle values, edges, options, state, messages."""

import copy
import importlib.util
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor

from lossweave.combiners import (
    GradientCombiner,
    build_combiner,
    combiner_class,
    combiner_names,
    register_combiner,
)
from lossweave.combiners.registry import _COMBINERS
from lossweave.errors import LossweaveError
from lossweave.progress import Progress

NAMES = [
    n
    for n in combiner_names()
    if issubclass(combiner_class(n), GradientCombiner)
    and combiner_class(n).__module__.startswith("lossweave.")
]
WEIGHTINGS = [n for n in NAMES if n not in ("GradDrop", "GradNorm")]
JACOBIAN = torch.tensor([[-4.0, 1, 1], [6, 1, 1]], dtype=torch.float64)
OPTIONS: dict[str, dict[str, Any]] = {
    "CAGrad": {"c": 0.5}, "FairGrad": {"alpha": 1.0}, "GradNorm": {"lr": 0.1}
}  # fmt: skip


def make(name: str, count: int = 2, **more: Any) -> GradientCombiner:
    combiner = build_combiner({"type": name, **OPTIONS.get(name, {}), **more})
    assert isinstance(combiner, GradientCombiner)
    combiner.bind(("a", "b", "c", "d")[:count])
    return combiner


def combined(combiner: GradientCombiner, rows: Tensor) -> Tensor:
    rows = rows.double()
    return torch.tensor(combiner.weights_of(rows @ rows.T), dtype=torch.float64) @ rows


def rows_at(t: int, count: int = 3, width: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(t)
    sizes = torch.tensor([0.5, 3.0, 1.0, 0.1], dtype=torch.float64)[:count, None]
    return sizes * torch.randn(count, width, generator=generator, dtype=torch.float64)


def test_all_are_here() -> None:
    assert len(NAMES) == 13


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MGDA", [0, 1, 1]),
        ("PCGrad", [0.5848, 3.8012, 3.8012]),
        ("UPGrad", [0.2929, 1.9004, 1.9004]),
        ("IMTLG", [0.0767, 1, 1]),
        ("AlignedMTL", [0.2133, 0.9673, 0.9673]),
        ("CAGrad", [0.1835, 1.2041, 1.2041]),
        ("NashMTL", [0.0542, 0.7061, 0.7061]),
        ("FairGrad", [0.0766, 0.9985, 0.9985]),
    ],
)
def test_oracle(name: str, expected: list[float]) -> None:
    found = combined(make(name), JACOBIAN)
    assert (found - torch.tensor(expected)).abs().max() < 1.01e-4, found


@pytest.mark.parametrize(
    ("name", "expected"),
    [("MGDA", [0.6, 0.4]), ("PCGrad", [1 + 22 / 18, 1 + 22 / 38]), ("IMTLG", [0.5923, 0.4077])],
)
def test_oracle_weights(name: str, expected: list[float]) -> None:
    found = torch.tensor(make(name).weights_of(JACOBIAN @ JACOBIAN.T))
    assert (found - torch.tensor(expected)).abs().max() < 1e-4


def test_closed_forms_for_two() -> None:
    for t in range(5):
        one, two = rows = rows_at(t, 2)
        n1, n2, cosine = one.norm(), two.norm(), one @ two / one.norm() / two.norm()
        gamma = ((two - one) @ two / (one - two).square().sum()).clamp(0, 1)
        torch.testing.assert_close(
            combined(make("MGDA"), rows), gamma * one + (1 - gamma) * two
        )
        torch.testing.assert_close(
            combined(make("IMTLG"), rows), (n2 * one + n1 * two) / (n1 + n2)
        )
        nash = torch.tensor(make("NashMTL", max_norm=0.0).weights_of(rows @ rows.T))
        alpha = torch.stack([1 / n1, 1 / n2]) / (1 + cosine).sqrt()
        torch.testing.assert_close(nash / nash[0], (alpha / alpha[0]).to(nash), rtol=2e-2, atol=0)
        both = make("UPGrad", pref_vector=[1.0, 1.0], reg_eps=1e-9)
        torch.testing.assert_close(combined(both, rows), combined(make("PCGrad"), rows))
    short_long = torch.tensor([[1.0, 0.0], [10.0, 0.0]])
    assert combined(make("MGDA"), short_long).tolist() == pytest.approx([1, 0])


@pytest.mark.parametrize("name", NAMES)
def test_one_term_is_the_plain_loss(name: str) -> None:
    combiner = make(name, 1)
    for t in range(3):
        assert combiner.weights_of(torch.tensor([[float(t)]]).double()) == [1.0]


@pytest.mark.parametrize("name", WEIGHTINGS)
@pytest.mark.parametrize("absent", [0, 1, 2])
def test_a_zero_row_is_as_if_never_there(name: str, absent: int) -> None:
    rows = rows_at(3)
    rows[absent] = 0
    rest = [k for k in range(3) if k != absent]
    found = make(name, 3).weights_of(rows @ rows.T)
    expected = make(name, 2).weights_of(rows[rest] @ rows[rest].T)
    assert [found[k] for k in rest] == pytest.approx(expected, rel=1e-6)
    assert found[absent] == 1.0
    assert any(w != 0 for w in expected)  # nothing stalls


@pytest.mark.parametrize("name", NAMES)
def test_no_gradient_at_all(name: str) -> None:
    assert all(torch.tensor(make(name).weights_of(torch.zeros(2, 2).double())).isfinite())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [torch.inf, torch.nan])
def test_a_gramian_that_is_not_finite(name: str, bad: float) -> None:
    combiner = make(name)
    combiner.weights_of(JACOBIAN @ JACOBIAN.T)
    state = {k: v.clone() for k, v in combiner.state_dict().items()}
    gramian = JACOBIAN @ JACOBIAN.T
    gramian[0, 0] = bad
    if name not in ("GradNorm", "GradDrop"):
        combiner.weigh = lambda *_: pytest.fail("the solver was called")  # type: ignore
    weights = combiner.weights_of(gramian)
    assert weights[0] == weights[1]
    for key, value in combiner.state_dict().items():
        if "norm_" not in key:
            torch.testing.assert_close(value, state[key], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3])
def test_nash_condition(scale: float) -> None:
    gramian = scale**2 * torch.tensor([[177.0, -6.6, 728.0], [-6.6, 15.3, -49.0],
                                       [728.0, -49.0, 5785.0]]).double()  # fmt: skip
    weights = torch.tensor(make("NashMTL", 3).weights_of(gramian)).double()
    gains = weights * (gramian @ weights)  # what every player's bargain is worth: all the same
    torch.testing.assert_close(gains / gains.mean(), torch.ones(3).double(), rtol=1e-3, atol=0)
    assert (weights @ gramian @ weights).sqrt() <= 1 + 1e-6


SCALE_FREE = [n for n in WEIGHTINGS if n not in ("NashMTL", "FairGrad")]


@pytest.mark.parametrize("name", WEIGHTINGS)
@pytest.mark.parametrize("scale", [1e-15, 1e-6, 1e6, 1e15])
def test_scale(name: str, scale: float) -> None:
    rows = rows_at(1)
    plain = torch.tensor(make(name, 3).weights_of(rows @ rows.T))
    found = torch.tensor(make(name, 3).weights_of((scale * rows) @ (scale * rows).T))
    assert found.isfinite().all() and found.any()
    if name in SCALE_FREE:
        torch.testing.assert_close(found, plain, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_a_scale_of_zero_and_rank_deficient_rows(name: str) -> None:
    same = rows_at(1)[:1].expand(3, -1)
    for rows in (0 * rows_at(1), same, torch.cat([same[:2], -same[:1]])):
        combiner = make(name, 3)
        assert torch.tensor(combiner.weights_of(rows @ rows.T)).isfinite().all()


#: The order of the draws, or of a solver's variables, is the terms'.
ORDERED = {"PCGrad": 1e-9, "GradVac": 1e-9}


@pytest.mark.parametrize("name", [n for n in WEIGHTINGS if n not in ORDERED])
@pytest.mark.parametrize("order", [[2, 0, 1], [1, 0, 2]])
def test_the_order_of_the_terms_does_not_matter(name: str, order: list[int]) -> None:
    rows = rows_at(2)
    found = combined(make(name, 3), rows)
    tolerance = 2e-2 if name == "NashMTL" else 1e-4
    torch.testing.assert_close(
        combined(make(name, 3), rows[order]), found, rtol=tolerance, atol=tolerance
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [("UPGrad", {}), ("DualProj", {}), ("MGDA", {}), ("FairGrad", {}), ("CAGrad", {"c": 1.0})],
)
def test_no_term_is_made_worse(name: str, options: dict[str, Any]) -> None:
    for t in range(10):
        rows = rows_at(t)
        pulls = rows @ combined(make(name, 3, **options), rows)
        assert (pulls > -2e-2 * rows.norm() ** 2 / len(rows)).all(), pulls


@pytest.mark.parametrize("name", WEIGHTINGS)
def test_normalised_rows(name: str) -> None:
    rows = rows_at(4, 2)
    found = combined(make(name, normalize=True), rows)
    norms = rows.norm(dim=1)
    units = rows / norms[:, None]
    expected = combined(make(name), units) * norms.mean()
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
    louder = rows * torch.tensor([[1.0], [100.0]])
    again = combined(make(name, normalize=True), louder)
    torch.testing.assert_close(again / again.norm(), found / found.norm(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("first", [1, 4])
def test_resuming_is_bit_identical(name: str, first: int) -> None:
    def run(combiner: GradientCombiner, start: int, stop: int) -> list[list[float]]:
        found = []
        for t in range(start, stop):
            combiner.begin(Progress(t))
            losses = torch.tensor([1.0, 2.0, 0.5]) * 0.9**t
            combiner.combine(losses, torch.ones(3, dtype=torch.bool))
            combiner.update(losses, torch.ones(3, dtype=torch.bool))
            found.append(combiner.weights_of(rows_at(t) @ rows_at(t).T))
        return found

    options = {} if name == "GradDrop" else {"interval": 2}
    for more in ({}, options):
        through, stopped = make(name, 3, **more), make(name, 3, **more)
        run(through, 0, first)
        run(stopped, 0, first)
        resumed = make(name, 3, **more)
        resumed.load_state_dict(stopped.state_dict())
        copies = [resumed, copy.deepcopy(stopped), pickle.loads(pickle.dumps(stopped))]
        expected = run(through, first, 7)
        for other in copies:
            assert run(other, first, 7) == expected
        through.reset()
        assert run(through, 0, 5) == run(make(name, 3, **more), 0, 5)


@pytest.mark.parametrize("name", NAMES)
def test_what_learns_has_state_and_nothing_else_has(name: str) -> None:
    combiner = make(name)
    assert bool(combiner.state_dict()) == combiner.learns
    assert not list(combiner.parameters())


@pytest.mark.parametrize("name", ["GradVac", "NashMTL"])
def test_memory_moves_once_per_update(name: str) -> None:
    combiner = make(name, 3)
    before = {k: v.clone() for k, v in combiner.state_dict().items()}
    combiner.begin(Progress(0, accumulation=2))
    combiner.weights_of(rows_at(0) @ rows_at(0).T)
    assert all(torch.equal(v, before[k]) for k, v in combiner.state_dict().items())
    combiner.begin(Progress(1, accumulation=2))
    combiner.weights_of(rows_at(1) @ rows_at(1).T)
    assert not all(torch.equal(v, before[k]) for k, v in combiner.state_dict().items())


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("UPGrad", "quadprog", "quadprog-projector"),
        ("DualProj", "qpsolvers", "quadprog-projector"),
        ("CAGrad", "clarabel", "cagrad"),
        ("NashMTL", "ecos", "nash-mtl"),
        ("FairGrad", "scipy", "fairgrad"),
        ("MGDA", "torchjd", ""),
    ],
)
def test_a_missing_solver_is_said_when_the_config_is_read(
    name: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda n, *a: None if n == package else there(n, *a)
    )
    line = rf"'torchjd\[{extra}\]=" if extra else "'torchjd="
    with pytest.raises(LossweaveError, match=rf"{package}; type: pip install {line}"):
        build_combiner(name)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "PCGrad", "boundary": []}, "boundary=.* a word or a list"),
        ({"type": "PCGrad", "boundary": ["features"]}, "boundary=.* one of the words"),
        ({"type": "PCGrad", "boundary": 3}, "boundary=3 should be"),
        ({"type": "PCGrad", "interval": 0}, "interval=0 should be at least 1"),
        ({"type": "PCGrad", "interval": 2, "private": "plain"}, "implies private='weighted'"),
        ({"type": "PCGrad", "private": "all"}, "private='all' should be one of"),
        ({"type": "PCGrad", "normalise": True}, "did you mean 'normalize'"),
        ({"type": "GradDrop", "interval": 2}, "interval=2 should be 1"),
        ({"type": "GradNorm", "normalize": True}, "no argument 'normalize'"),
        ({"type": "GradNorm", "alpha": -1.0}, "alpha=-1.0"),
        ({"type": "CAGrad", "c": -0.1}, "c=-0.1"),
        ({"type": "FairGrad", "alpha": -1.0}, "alpha=-1.0"),
        ({"type": "MGDA", "epsilon": 0.0}, "epsilon=0.0"),
        ({"type": "NashMTL", "max_norm": -1.0}, "max_norm=-1.0"),
        ({"type": "GradVac", "beta": 1.5}, "beta=1.5"),
        ({"type": "AlignedMTL", "scale_mode": "max"}, "scale_mode='max' should be one of"),
        ({"type": "UPGrad", "reg_eps": 0.0}, "reg_eps=0.0"),
    ],
)
def test_wrong_arguments(config: dict[str, Any], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        build_combiner(config)


@pytest.mark.parametrize("name", ["UPGrad", "DualProj", "ConFIG", "AlignedMTL"])
def test_preferences_by_name(name: str) -> None:
    combiner = make(name, pref_vector={"b": 2.0, "a": 1.0})
    listed = make(name, pref_vector=[1.0, 2.0])
    gramian = JACOBIAN @ JACOBIAN.T
    assert combiner.weights_of(gramian) == listed.weights_of(gramian)
    with pytest.raises(LossweaveError, match="pref_vector"):
        make(name, pref_vector={"z": 1.0})


def test_a_failing_solver_is_said_once_and_training_goes_on() -> None:
    @register_combiner
    class Failing(GradientCombiner):
        def weigh(self, gramian: Tensor, terms: list[int]) -> Tensor:
            raise ValueError("no luck")

    try:
        combiner = make("Failing")
        with pytest.warns(UserWarning, match="Failing: no luck; equal weights") as said:
            for _ in range(3):
                assert combiner.weights_of(JACOBIAN @ JACOBIAN.T) == [0.5, 0.5]
        assert len(said) == 1
    finally:
        del _COMBINERS["Failing"]


def test_measures() -> None:
    combiner = make("PCGrad")
    assert combiner.measures() == {}
    combiner.weights_of(JACOBIAN @ JACOBIAN.T)
    combiner.weights_of(torch.tensor([[4.0, 1.0], [1.0, 9.0]], dtype=torch.float64))
    found = combiner.measures()
    assert found == pytest.approx(
        {"grad_norm_a": 2, "grad_norm_b": 3, "cos_a_b": 1 / 6, "conflict": 0.5}
    )
    assert combiner.measures() == {} and not any("loss" in name for name in found)
