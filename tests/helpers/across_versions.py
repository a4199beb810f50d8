"""The gradients of every combiner at every boundary, written by one version of torch and compared
by another: ``python -m helpers.across_versions write FILE``, then ``... compare FILE``.
"""

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch

from helpers import combiner_cases, gradient_cases
from helpers.gradient_net import Net, Scenario, shard
from lossweave.combination import build_combination

#: Of the largest gradient.
TOLERANCE = 1e-5
UPDATES = 2
_PATTERNS = {term: f"?loss_{term}" for term in combiner_cases.TERMS}


def _of_values(case: str, device: str) -> list[float]:
    """A combiner of loss values: the gradients of all updates."""
    combination = build_combination(combiner_cases.config(case), _PATTERNS)
    combination.say = lambda message: None
    model = Net(combination).to(device)
    optimizer = gradient_cases.optimizer_of(model)
    found: list[float] = []
    for iteration in range(UPDATES):
        combination.set_progress(combiner_cases.at(iteration))
        optimizer.zero_grad()
        combination(model(shard(iteration, 0).to(device)), model=model).backward()
        found.extend(_flat([p.grad for p in model.parameters()]))
        optimizer.step()
    return found


def _of_gradients(case: str, boundary: str, device: str) -> list[float]:
    scenario = Scenario(updates=UPDATES)
    record = gradient_cases.run(case, boundary, scenario, rank=None, device=device)
    return [x for grads in record["grads"] for x in _flat(grads)]


def _flat(grads: list[Any]) -> list[float]:
    return [x for grad in grads if grad is not None for x in grad.flatten().tolist()]


def labels() -> dict[str, tuple[str, str | None]]:
    """Combiner and boundary, by how they are called; a combiner of loss values has no boundary."""
    found: dict[str, tuple[str, str | None]] = {
        case: (case, None) for case in combiner_cases.cases()
    }
    for case in gradient_cases.cases():
        for boundary in gradient_cases.BOUNDARIES:
            found[f"{case} at {boundary}"] = (case, boundary)
    return found


def gradients_of(label: str, device: str = "cpu") -> list[float]:
    """The numbers of all updates, computed on a device from the same weights and pictures."""
    case, boundary = labels()[label]
    return _of_values(case, device) if boundary is None else _of_gradients(case, boundary, device)


def gradients() -> dict[str, list[float]]:
    """By combiner and boundary."""
    return {label: gradients_of(label) for label in labels()}


def differences(one: dict[str, Any], other: dict[str, Any]) -> dict[str, float]:
    """The largest difference of each, relative to its largest gradient."""
    worst = {}
    for name in one.keys() | other.keys():
        if name not in one or name not in other:
            worst[name] = float("inf")
            continue
        mine, theirs = torch.tensor(one[name]).double(), torch.tensor(other[name]).double()
        same = mine.shape == theirs.shape
        size = theirs.abs().max().clamp(min=1e-12)
        worst[name] = float((mine - theirs).abs().max() / size) if same else float("inf")
    return worst


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("task", choices=["write", "compare"])
    parser.add_argument("file", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    warnings.simplefilter("ignore")  # of solvers
    found = gradients()
    if options.task == "write":
        options.file.parent.mkdir(parents=True, exist_ok=True)
        options.file.write_text(json.dumps({"torch": torch.__version__, "gradients": found}))
        return 0
    written = json.loads(options.file.read_text())
    worst = differences(found, written["gradients"])
    bad = {name: size for name, size in worst.items() if not size <= TOLERANCE}
    print(
        f"torch {torch.__version__} against {written['torch']}: {len(worst) - len(bad)} of "
        f"{len(worst)} gradients equal to {TOLERANCE:g} of the largest; largest difference "
        f"{max(worst.values()):.1e}"
    )
    for name, size in sorted(bad.items()):
        print(f"  {name}: {size:.1e}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
