"""Random numbers keyed by (seed, update)."""

import torch

from lossweave.combiners._random import generator_for, uniform_for


def _draw(seed: int, update: int) -> tuple[float, ...]:
    return tuple(torch.rand(4, generator=generator_for(seed, update)).tolist())


def test_the_key_alone_decides() -> None:
    first = _draw(5, 7)
    torch.manual_seed(123)
    _draw(5, 8)
    assert _draw(5, 7) == first


def test_every_key_draws_something_else() -> None:
    draws = {_draw(seed, update) for seed in range(20) for update in range(50)}
    assert len(draws) == 1000


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    _draw(0, 0)
    assert torch.equal(torch.get_rng_state(), before)


def test_negative_and_large_seeds_are_keys_like_any_other() -> None:
    assert len({_draw(seed, 0) for seed in (-1, 0, 2**62, 2**40)}) == 4


def test_uniform_numbers_follow_from_seed_and_update() -> None:
    drawn = [uniform_for(0, t) for t in range(2000)]
    assert drawn == [uniform_for(0, t) for t in range(2000)] and len(set(drawn)) == 2000
    assert abs(sum(drawn) / 2000 - 0.5) < 0.03 and min(drawn) >= 0 and max(drawn) < 1
    assert uniform_for(1, 0) != drawn[0]
