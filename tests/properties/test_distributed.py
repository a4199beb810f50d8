"""Two processes under DDP against one that combines the averaged terms once."""

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import ddp_toy as support_toy
from helpers.combiner_cases import cases, close, registered
from helpers.ddp_toy import SCENARIOS, distributed_cases
from helpers.gather import name_of
from helpers.ranks import RANKS, spawn

pytestmark = pytest.mark.xdist_group("ranks")  # so that one worker spawns, once


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What the two processes recorded, spawned once for all tests here."""
    folder = tmp_path_factory.mktemp("ranks")
    spawn(support_toy.work, str(folder))
    return [torch.load(Path(folder) / f"rank{r}.pt", weights_only=False) for r in range(RANKS)]


def test_all_combiners_and_scenarios_ran(ranks: list[dict[str, Any]]) -> None:
    assert {name_of(label) for label in distributed_cases()} == set(registered())
    for records in ranks:
        assert len(records) == len(cases()) * len(SCENARIOS) + 2


@pytest.mark.parametrize("label", distributed_cases())
def test_gradients_and_weights_equal_one_process(label: str, ranks: list[dict[str, Any]]) -> None:
    combiner, scenario = distributed_cases()[label]
    expected = support_toy.reference(combiner, scenario)
    moved = False
    for records in ranks:
        found = records[label]
        assert len(found["grads"]) == len(expected["grads"]) == scenario.updates
        for ours, theirs in zip(found["grads"], expected["grads"], strict=True):
            for mine, reference in zip(ours, theirs, strict=True):
                assert (mine is None) == (reference is None)
                if reference is not None:
                    close(mine, reference, rtol=1e-5, atol=1e-9)
                    moved = moved or bool(reference.abs().max() > 0)
        assert found["state"].keys() == expected["state"].keys()
        for name, value in expected["state"].items():
            close(found["state"][name], value, rtol=1e-5, atol=1e-6, equal_nan=True)
    assert moved


@pytest.mark.parametrize("label", distributed_cases())
def test_both_ranks_end_equal_to_the_last_bit(label: str, ranks: list[dict[str, Any]]) -> None:
    one, other = (records[label]["state"] for records in ranks)
    for name, value in one.items():
        assert torch.equal(value.nan_to_num(-7.0), other[name].nan_to_num(-7.0)), name


def test_what_only_inactive_terms_reach_is_held(ranks: list[dict[str, Any]]) -> None:
    # The turns are a, b, b, c: head_a is parameters 2 and 3, head_bc 4 and 5.
    held = {"a": [False, False, False, False, True, True],
            "b": [False, False, True, True, False, False]}
    for records in ranks:
        for scenario in SCENARIOS:
            if scenario.absent != "a":
                grads = records[f"Alternating {scenario.label}"]["grads"]
                assert [g is None for g in grads[0]] == held["a"]
                assert [g is None for g in grads[1]] == held["b"]


def test_zero_instead_of_hold_gives_zero_gradients(ranks: list[dict[str, Any]]) -> None:
    for records in ranks:
        grads = records[f"Alternating epoch zero {SCENARIOS[0].label}"]["grads"][0]
        assert all(g is not None for g in grads)
        assert not any(g.any() for g in grads[4:]) and all(g.any() for g in grads[:4])


def test_a_nan_on_one_rank_is_skipped_on_both(ranks: list[dict[str, Any]]) -> None:
    for records in ranks:
        found = records["skip"]
        assert found["skipping"] == [False, False, True, False]
        for name, value in found[1].items():
            if name != "window_skipped":
                assert torch.equal(value, found[2][name])


def test_the_first_forward_looks_at_the_terms_of_all_ranks(ranks: list[dict[str, Any]]) -> None:
    assert [records["first"] for records in ranks] == [["a", "b", "c"]] * 2
