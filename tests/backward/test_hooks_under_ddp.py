"""Hooks of a user's under DDP: once a step on each rank, whatever the other rank's are."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.hooks_under_ddp import CASES, HALVED, work
from helpers.ranks import RANKS, spawn


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    spawn(work, str(folder))
    return [torch.load(Path(folder) / f"rank{r}.pt", weights_only=False) for r in range(RANKS)]


@pytest.mark.parametrize(("case", "boundary"), CASES)
def test_they_are_called_once_and_the_ranks_agree(case: str, boundary: str, ranks: Any) -> None:
    for rank, records in enumerate(ranks):
        plain, hooked = records[case, boundary]
        more = {"features": 1} if rank == RANKS - 1 else {}
        assert hooked["calls"] == {"leaf": 1, "trunk": 1, **more}
        for name, grad in plain["grads"].items():
            expected = 0.5 * grad if name == HALVED else grad
            torch.testing.assert_close(hooked["grads"][name], expected)
    for name, grad in ranks[0][case, boundary][1]["grads"].items():
        assert torch.equal(grad, ranks[1][case, boundary][1]["grads"][name])
