"""Two plain gradient steps: is a turn of each term one step of the half-weighted sum, twice?

As a process of its own::

    python -m lossweave.studies.turns.first_order CONFIG --seed 0 --out FILE.json
"""

import argparse
import copy
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from mmengine.runner.utils import set_random_seed

from lossweave.mmdet.configs import load_config, with_combiner
from lossweave.progress import Progress
from lossweave.utils.files import write_json

__all__ = ["RATES", "first_order"]

#: Learning rates of the steps.
RATES = (1e-2, 1e-3, 1e-4)
_HALF: dict[str, Any] = dict(type="Sum", weights=[0.5, 0.5])
_TURNS: dict[str, Any] = dict(type="Alternating")


def first_order(
    config: str,
    seed: int = 0,
    options: dict[str, Any] | None = None,
    rates: Sequence[float] = RATES,
) -> dict[str, dict[float, float]]:
    r"""How far two turns lead from two steps of the half-weighted sum, by learning rate.

    From the seed's initial weights :math:`\theta_0`, with plain gradient steps of rate η, one
    update of each term leads to :math:`\theta_a`, two of the half-weighted sum to
    :math:`\theta_b`; returned is :math:`\|\theta_a - \theta_b\| / \|\theta_b - \theta_0\|`. On
    one batch for both updates it falls in proportion to η if the claim holds, down to what is
    not differentiable (a ReLU at exactly 0); with a new batch for each update it does not fall
    below what the batches differ by, since turns see each term on half of them.

    Args:
        config: of a detector with two terms, a path or ``package::path``.
        seed: of weights and data.
        options: further ``--cfg-options``.
        rates: the η.

    Returns:
        By 'one batch' and 'new batches', by rate.
    """
    cfg = with_combiner(load_config(config, options), "Sum")
    init_default_scope(cfg.get("default_scope", "mmdet"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    set_random_seed(seed)
    model = MODELS.build(cfg.model)
    model.init_weights()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    batches = list(islice(Runner.build_dataloader(cfg.train_dataloader, seed=seed), 2))

    def end(combiner: dict[str, Any], rate: float, data: Sequence[Any]) -> torch.Tensor:
        return _steps(cfg, combiner, start, data, rate, seed, device)

    origin = end(_HALF, 0.0, [])
    found: dict[str, dict[float, float]] = {}
    for name, data in (("one batch", [batches[0], batches[0]]), ("new batches", batches)):
        found[name] = {}
        for rate in rates:
            turns, half = end(_TURNS, rate, data), end(_HALF, rate, data)
            found[name][rate] = float((turns - half).norm() / (half - origin).norm())
    return found


def _steps(
    cfg: Config,
    combiner: dict[str, Any],
    start: dict[str, torch.Tensor],
    batches: Sequence[Any],
    rate: float,
    seed: int,
    device: str,
) -> torch.Tensor:
    wrapped = copy.deepcopy(cfg.model)
    wrapped.combiner = combiner
    model = MODELS.build(wrapped)
    model.load_state_dict(start, strict=False)  # the combiner's own buffers are not in it
    model.to(device).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    # Kept in double: steps this small would round away in float32.
    exact = [parameter.detach().double() for parameter in trained]
    for update, batch in enumerate(batches):
        set_random_seed(seed)  # boxes are sampled alike
        model.loss_combination.set_progress(Progress(iteration=update, max_iterations=len(batches)))
        data = model.data_preprocessor(copy.deepcopy(batch), True)
        root, _ = model.parse_losses(model(**data, mode="loss"))
        model.zero_grad(set_to_none=True)
        root.backward()
        with torch.no_grad():
            for parameter, value in zip(trained, exact, strict=True):
                if parameter.grad is not None:
                    value -= rate * parameter.grad
                    parameter.copy_(value)
    return torch.cat([value.flatten() for value in exact])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure one seed and write the result as JSON."""
    parser = argparse.ArgumentParser(description="Turns against the half-weighted sum, two steps.")
    parser.add_argument("config")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", required=True, type=Path, help="the JSON to write")
    parser.add_argument("--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE")
    args = parser.parse_args(arguments)
    write_json(args.out, first_order(args.config, args.seed, args.cfg_options))


if __name__ == "__main__":
    main()
