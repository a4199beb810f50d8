"""The cost over the number of terms: the network, one small measurement, refusals."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope

from lossweave.combiners import GradientCombiner, register_combiner
from lossweave.combiners.registry import _COMBINERS
from lossweave.errors import LossweaveError
from lossweave.mmdet.configs import load_config
from lossweave.studies.benchmark.boundary_findings import BOUNDARIES
from lossweave.studies.benchmark.cli import benchmark
from lossweave.studies.benchmark.detectors import CONTROL, sharing
from lossweave.studies.benchmark.many_heads import ManyHeads, combined_heads
from lossweave.studies.benchmark.many_terms import CONFIG, batched_rows, run_many_terms
from lossweave.studies.benchmark.many_terms_findings import BATCHED, ManyTerms, TermCosts
from lossweave.studies.benchmark.many_terms_report import many_terms_markdown
from lossweave.studies.benchmark.timing import PairedTimes


@pytest.fixture(scope="module")
def stock() -> ManyHeads:
    init_default_scope("mmdet")
    return ManyHeads(load_config(CONFIG), 3).train()


def _grads(model: ManyHeads) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.fixture
def unit() -> Iterator[str]:
    @register_combiner
    class Unit(GradientCombiner):
        """Weights 1: the plain sum, by the way of gradients."""

        def weigh(self, gramian: torch.Tensor, terms: list[int]) -> torch.Tensor:
            return torch.ones(len(terms))

    yield "Unit"
    del _COMBINERS["Unit"]


def test_weights_of_1_give_the_plain_gradient_at_every_boundary(
    stock: ManyHeads, unit: str
) -> None:
    inputs = torch.rand(1, 3, 64, 64)
    stock.parse_losses(stock(inputs))[0].backward()
    expected = _grads(stock)
    for boundary in BOUNDARIES:
        combiner = dict(type=unit, boundary=boundary)
        model = sharing(combined_heads(load_config(CONFIG), 3, combiner), stock)
        model.zero_grad()
        model.parse_losses(model(inputs))[0].backward()
        found = _grads(model)
        assert found.keys() == expected.keys()
        for name, grad in expected.items():
            torch.testing.assert_close(found[name], grad, rtol=1e-3, atol=1e-5)
        where = model.loss_combination.boundary.found
        assert boundary != "representation" or where == ("shared",)
    stock.zero_grad()


def test_a_batched_pass_has_the_rows_of_passes(stock: ManyHeads) -> None:
    losses = torch.stack(list(stock(torch.rand(1, 3, 64, 64)).values()))
    parameters = [p for p in stock.parameters() if p.requires_grad]
    batched = batched_rows(losses, parameters, retain=True)
    for k, loss in enumerate(losses.unbind()):
        own = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        for rows, row in zip(batched, own, strict=True):
            if row is None:
                assert rows is None or not rows[k].any()
            else:
                torch.testing.assert_close(rows[k], row, rtol=1e-4, atol=1e-6)


def test_one_number_of_terms(tmp_path: Path) -> None:
    small = dict(counts=(2,), processes=(), rounds=1, batch_size=1, size=64)
    run_many_terms(ManyTerms(work_dir=str(tmp_path), **small))
    content = json.loads((tmp_path / "many_terms.json").read_text())
    (result,) = content["results"]
    assert result["terms"] == 2 and result["processes"] == 0
    assert set(result["steps"]) == {CONTROL, *BOUNDARIES, *BATCHED.values()}
    assert all(min(step["a"]) > 0 for step in result["steps"].values())
    text = (tmp_path / "many_terms.md").read_text()
    assert "K-pass limit" in text and "Several processes" not in text
    assert (tmp_path / "many_terms.png").stat().st_size > 1000


def test_what_should_hold_and_the_table_over_processes() -> None:
    ratios = {CONTROL: 1.0, "representation": 1.03, "features": 1.08, "parameters": 3.0}
    times = {name: PairedTimes((1.0,), (ratio,)) for name, ratio in ratios.items()}
    costs = TermCosts(4, 2, times, 1.0, 2.0)
    assert costs.limit == 3.0 and costs.per_term("parameters") == 0.5
    assert [check.held for check in costs.checks()] == [True, False, True]
    facts = {
        "date": "2026-01-01", "minutes": 1.0, "command": "x",
        "machine": {"cpu": "c", "cores": 2, "torch_threads": 1, "accelerator": None},
    }  # fmt: skip
    text = many_terms_markdown(ManyTerms(), [costs], facts)
    assert "## Several processes" in text and "+2.00%" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [(["1"], "--many-terms: 1 should be between 2 and"), (["two"], "should be a whole number")],
)
def test_wrong_input(words: list[str], message: str) -> None:
    with pytest.raises(LossweaveError, match=message):
        benchmark(["--many-terms", *words])


def test_the_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[ManyTerms] = []
    monkeypatch.setattr("lossweave.studies.benchmark.cli.run_many_terms", asked.append)
    benchmark(["--many-terms", "--rounds", "3"])
    benchmark(["--many-terms", "2", "6", "--batch-size", "2"])
    whole, some = asked
    assert whole.counts == (2, 4, 8, 16) and whole.processes == (1, 2, 4) and whole.rounds == 3
    assert some.counts == (2, 6) and some.processes == () and some.batch_size == 2


def test_a_method_without_gradients() -> None:
    with pytest.raises(LossweaveError, match="DWA combines no gradients"):
        run_many_terms(ManyTerms(method="DWA"))
