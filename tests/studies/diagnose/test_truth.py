"""On losses whose truth is known, the diagnosis says it."""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
from helpers.diagnosed import watched
from torch import Tensor

from lossweave.studies.diagnose.record import Record
from lossweave.studies.diagnose.verdict import answers, diagnose

SIZE = 64
ONE, OTHER = torch.eye(SIZE)[0], torch.eye(SIZE)[1]


def _noise(i: int, scale: float) -> Tensor:
    return scale * torch.randn(SIZE, generator=torch.Generator().manual_seed(i))


def _said(a: Any, b: Any, **options: Any) -> tuple[dict[str, str], Any, Record]:
    """What is said of two terms with these gradients: functions of the iteration."""

    def losses(x: Tensor, i: int) -> Mapping[str, Tensor]:
        return {"loss_a": 10 + x @ a(i), "loss_b": 10 + x @ b(i)}

    record, _ = watched(losses, size=SIZE, **{"still": 16, **options})
    assert record is not None
    found = diagnose(record)
    return answers(found.verdicts["all"]), found, record


def _words(found: Any, topic: str) -> str:
    return next(v.words for v in found.verdicts["all"] if v.topic == topic)


def test_scales_a_thousand_apart() -> None:
    said, found, _ = _said(lambda i: 1000 * ONE + _noise(i, 1), lambda i: OTHER + _noise(-i, 1e-3))
    assert said["scale"] == "out of scale" and said["matters"] == "weights"
    assert found.weights["b"] / found.weights["a"] == pytest.approx(1000, rel=0.02)
    (stage,) = found.stages
    assert stage.pairs[0].ratio == pytest.approx(1000, rel=0.02) and stage.pairs[0].batches == 1
    # Under SGD the longer one is the step.
    assert stage.terms[0].sgd == pytest.approx(1, abs=1e-3)
    assert said["noise"] == "signal" and "b decides next to nothing" in _words(found, "scale")


def test_opposed_gradients() -> None:
    said, found, _ = _said(lambda i: ONE + _noise(i, 0.01), lambda i: -ONE + _noise(-i, 0.01))
    assert (said["conflict"], said["mend"], said["matters"]) == ("conflict", "gradients", "yes")
    assert said["scale"] == "even"
    pair = found.stages[0].pairs[0]
    assert pair.cosine == pytest.approx(-1, abs=0.02)
    assert pair.expected == pytest.approx(-1, abs=0.02) and pair.negative == 1
    assert found.stages[0].condition[0] > 10


def test_orthogonal_gradients_of_one_length() -> None:
    said, found, _ = _said(lambda i: ONE + _noise(i, 0.01), lambda i: OTHER + _noise(-i, 0.01))
    assert (said["scale"], said["conflict"], said["mend"]) == ("even", "orthogonal", "nothing")
    assert said["matters"] == "no" and said["noise"] == "signal"
    assert found.stages[0].terms[0].gain == pytest.approx(1, abs=0.05)
    assert found.weights == pytest.approx({"a": 1, "b": 1}, rel=0.02)


def test_one_term_is_noise() -> None:
    said, found, _ = _said(lambda i: ONE + _noise(i, 0.01), lambda i: _noise(i + 99, 1 / 8))
    assert said["noise"] == "noise: b" and said["matters"] == "no"
    a, b = found.stages[0].terms
    assert a.signal == pytest.approx(1, abs=0.02) and a.told and a.enough < 0.02
    assert b.signal < 0.05 and b.told is False
    assert found.stages[0].pairs[0].expected is None


def test_a_slight_conflict_with_a_longer_gradient_is_mended_by_weights() -> None:
    """Cosine -0.2: 20 times as long, the other one's step raises a term; of one length, it does
    not."""
    slant = -0.2 * ONE + 0.98**0.5 * OTHER
    said, found, _ = _said(lambda i: ONE + _noise(i, 1e-3), lambda i: 20 * slant + _noise(-i, 0.01))
    assert (said["conflict"], said["mend"], said["matters"]) == ("conflict", "weights", "weights")
    a = found.stages[0].terms[0]
    assert a.held == 1 and a.held_balanced == 0 and a.gain == pytest.approx(1 - 4, rel=0.05)


def test_uneven_terms_may_matter_a_little() -> None:
    said, _, _ = _said(lambda i: 5 * ONE + _noise(i, 0.01), lambda i: OTHER + _noise(-i, 0.01))
    assert (said["scale"], said["matters"]) == ("uneven", "perhaps")


def test_few_looks_say_nothing() -> None:
    said, _, _ = _said(lambda i: ONE, lambda i: OTHER, iterations=3)
    assert said == {"matters": "too few looks"}


def test_a_conflict_of_batches_alone_is_told_from_one_of_the_mean() -> None:
    """What a batch takes from one term it gives the other; on average they go together."""
    along = 0.3 * (ONE + OTHER)
    said, found, _ = _said(
        lambda i: along + _noise(i, 0.1), lambda i: along - _noise(i, 0.1), still=64
    )
    pair = found.stages[0].pairs[0]
    assert said["conflict"] == "conflict" and pair.cosine is not None and pair.cosine < -0.3
    assert pair.expected == pytest.approx(1, abs=0.3)
    assert "larger batches" in _words(found, "conflict")


def test_clipping_that_binds_is_measured() -> None:
    said, _, record = _said(lambda i: 30 * ONE, lambda i: 40 * OTHER, clip=5.0)
    assert said["clipping"] == "binds"
    assert record.looks[0].norm == pytest.approx(50)
    assert record.looks[0].clipped == pytest.approx(0.1, rel=1e-3)
    said, _, _ = _said(lambda i: 30 * ONE, lambda i: 40 * OTHER, clip=60.0)
    assert said["clipping"] == "never"


def test_adam_levels_what_parameters_do_not_share() -> None:
    """Terms on coordinates of their own, 100 apart: Adam divides each by its own size."""
    said, found, record = _said(lambda i: 100 * ONE, lambda i: OTHER, make=torch.optim.Adam)
    a, b = found.stages[0].terms
    assert record.adaptive and record.optimizer == "Adam" and said["optimizer"] == "adaptive"
    assert a.sgd > 0.999 and (a.adam, b.adam) == pytest.approx((0.5, 0.5), abs=1e-3)
    assert a.fall > 0 and a.raised == b.raised == 0
    # What Adam would make of an SGD training is told, too.
    _, found, record = _said(lambda i: 100 * ONE, lambda i: OTHER)
    assert not record.adaptive
    assert found.stages[0].terms[0].adam == pytest.approx(0.5, abs=1e-3)


def test_the_effect_of_a_step_is_the_change_of_a_linear_loss() -> None:
    values: list[float] = []

    def losses(x: Tensor, i: int) -> Mapping[str, Tensor]:
        found = {"loss_a": 1 + 3 * x[0], "loss_b": 2 - x[0] + x[1]}
        values.append(found["loss_b"].item())
        return found

    record, _ = watched(losses, iterations=4, lr=0.1, momentum=0.9)
    assert record is not None
    changes = [after - before for before, after in pairwise(values)]
    assert [look.effects[1] for look in record.looks[:3]] == pytest.approx(changes, rel=1e-4)
    assert changes[0] == pytest.approx(0.1, rel=1e-4)  # a step along a raises b
