"""Two processes against one that adds their shards up."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.ranks import RANKS, spawn
from helpers.torch_loop_toy import TwoHeads, batch_of, work
from torchjd import aggregation

COMBINERS: list[Any] = [
    "Sum",
    {"type": "UncertaintyWeighting", "lr": 0.1},
    "Max",
    "PCGrad",
    {"type": "UPGrad", "boundary": "features"},
    {"type": "MGDA", "boundary": "representation"},
]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[list[dict[str, Any]]]:
    """What the two processes recorded."""
    folder = tmp_path_factory.mktemp("ranks")
    spawn(work, str(folder), COMBINERS)
    return [torch.load(Path(folder) / f"rank{r}.pt", weights_only=True) for r in range(RANKS)]


@pytest.mark.parametrize("case", range(len(COMBINERS)), ids=lambda k: str(COMBINERS[k]))
def test_all_ranks_have_the_same_gradients_and_state(ranks: Any, case: int) -> None:
    one, other = (records[case] for records in ranks)
    for ours, theirs in zip(one["grads"], other["grads"], strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in ours)
    assert all(torch.equal(one["state"][key], other["state"][key]) for key in one["state"])


def _rows(index: int) -> list[torch.Tensor]:
    """The trunk's gradient of one loss on each rank's shard in the first update."""
    rows = []
    for rank in range(RANKS):
        model = TwoHeads()
        loss = list(model(batch_of(rank)).values())[index]
        grads = torch.autograd.grad(loss, list(model.backbone.parameters()))
        rows.append(torch.cat([grad.flatten() for grad in grads]))
    return rows


@pytest.mark.parametrize(
    ("case", "combine"),
    [(0, lambda rows: rows.sum(0)), (3, lambda rows: aggregation.PCGrad()(rows))],
)
def test_the_trunks_gradient_is_that_of_the_averaged_rows(
    ranks: Any, case: int, combine: Any
) -> None:
    rows = torch.stack([torch.stack(_rows(k)).mean(0) for k in range(2)])
    found = ranks[0][case]["grads"][0]
    ours = torch.cat([found[f"backbone.{k}"].flatten() for k, _ in
                      TwoHeads().backbone.named_parameters()])  # fmt: skip
    torch.testing.assert_close(ours, combine(rows), rtol=1e-8, atol=1e-10)
