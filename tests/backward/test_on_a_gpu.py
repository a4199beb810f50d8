"""On a real GPU: gradients are those of a CPU, for every combiner and boundary, and what waits."""

import warnings

import pytest
import torch
from helpers import across_versions, combiner_cases, gradient_cases
from helpers.across_versions import differences, gradients_of, labels
from helpers.gradient_net import PATTERNS, Net, shard
from torch import Tensor, nn

from lossweave.combination import LossCombination, build_combination
from lossweave.studies.benchmark.syncs import count_syncs

pytestmark = pytest.mark.gpu
if not torch.cuda.is_available():
    pytest.skip("needs a GPU", allow_module_level=True)

_VALUE_PATTERNS = {term: f"?loss_{term}" for term in combiner_cases.TERMS}


_rand = torch.rand


def _rand_of_the_gpu(*size: int, generator: torch.Generator, device: torch.device) -> Tensor:
    there = torch.Generator("cuda").manual_seed(generator.initial_seed())
    return _rand(*size, generator=there, device="cuda").to(device)


@pytest.mark.parametrize("label", labels())
def test_gradients_are_those_of_a_cpu(label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if label.startswith("GradDrop"):  # its mask is drawn where it is needed, by other numbers
        monkeypatch.setattr(torch, "rand", _rand_of_the_gpu)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of solvers
        found = {device: {label: gradients_of(label, device)} for device in ("cpu", "cuda")}
    assert any(found["cpu"][label])
    assert differences(found["cuda"], found["cpu"])[label] <= across_versions.TOLERANCE


def _waits(combination: LossCombination) -> int:
    """In the third update: the first ones check, and may set up what stays."""
    model: nn.Module = Net(combination).to("cuda")
    optimizer = gradient_cases.optimizer_of(model)
    pictures = [shard(iteration, 0).to("cuda") for iteration in range(3)]

    def step() -> None:
        root = combination(model(pictures[iteration]), model=model)
        root.backward()

    found = 0
    for iteration in range(3):
        combination.set_progress(combiner_cases.at(iteration))
        optimizer.zero_grad()
        found = count_syncs(step, "cuda")
        optimizer.step()
    return found


@pytest.mark.parametrize("case", combiner_cases.cases())
def test_a_combiner_of_values_waits_as_it_says(case: str) -> None:
    combination = build_combination(combiner_cases.config(case), _VALUE_PATTERNS)
    combination.say = lambda message: None
    assert bool(_waits(combination)) == combiner_cases.cases()[case].waits


@pytest.mark.parametrize("boundary", gradient_cases.BOUNDARIES)
def test_a_combiner_of_gradients_reads_the_gramian(boundary: str) -> None:
    given = gradient_cases.config("PCGrad", gradient_cases.BOUNDARIES[boundary])
    combination = build_combination(given, PATTERNS)
    combination.say = lambda message: None
    assert _waits(combination) == 1
