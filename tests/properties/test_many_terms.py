"""Every combiner with as many terms as each raw loss, decoder layer or pyramid level makes."""

import pytest
import torch
from helpers import gradient_cases
from helpers.combiner_cases import at, cases, here
from helpers.gather import name_of

from lossweave.combiners import GradientCombiner, build_combiner

VALUES = {case: cases()[case] for case in cases() if " " not in case}
GRADIENTS = [case for case in gradient_cases.cases() if " " not in case]


@pytest.mark.parametrize("case", VALUES)
@pytest.mark.parametrize("count", [6, 12, 20])
def test_values(case: str, count: int) -> None:
    terms = [f"d{k}" for k in range(count)]
    combiner = build_combiner({"type": name_of(case), **VALUES[case].many(terms)})
    combiner.bind(terms)
    generator = torch.Generator().manual_seed(count)
    sizes = torch.logspace(-2, 2, count)
    for t in range(12):
        combiner.begin(at(t))
        losses = sizes * (0.5 + torch.rand(count, generator=generator)) * 0.95**t
        present = here(count)
        absent = (t + 1) % count  # not the one whose turn it is
        present[absent] = False
        losses = losses.masked_fill(~present, 0)
        value, weights = combiner.combine(losses, present)
        combiner.update(losses, present)
        assert value.isfinite() and weights.isfinite().all() and weights.any()
        assert weights[absent] == 0
    assert all(v.isfinite().all() for k, v in combiner.state_dict().items()
               if k.split(".")[-1] not in VALUES[case].unknown)  # fmt: skip


@pytest.mark.parametrize("case", GRADIENTS)
@pytest.mark.parametrize("count", [6, 12, 20])
def test_gradients(case: str, count: int, recwarn: pytest.WarningsRecorder) -> None:
    combiner = build_combiner({"type": case})
    assert isinstance(combiner, GradientCombiner)
    combiner.bind([f"d{k}" for k in range(count)])
    sizes = torch.logspace(-1.5, 1.5, count, dtype=torch.float64)[:, None]
    for t in range(3):
        generator = torch.Generator().manual_seed(100 * count + t)
        # Alike, as layers of one decoder are, and of very different lengths.
        rows = torch.randn(1, 40, generator=generator, dtype=torch.float64)
        rows = sizes * (rows + 2 * torch.randn(count, 40, generator=generator).double())
        combiner.begin(at(t))
        combiner.combine(torch.ones(count), here(count))
        combiner.update(torch.ones(count), here(count))
        weights = torch.tensor(combiner.weights_of(rows @ rows.T))
        assert weights.isfinite().all() and weights.any()
    failed = [str(w.message) for w in recwarn if "equal weights were used" in str(w.message)]
    assert not failed
