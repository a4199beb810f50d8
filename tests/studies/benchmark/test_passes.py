"""The parts of a step: which backwards are timed, and where they end."""

from collections import Counter
from time import process_time
from typing import Any

import pytest
from helpers.tiny_detector import tiny_batch, tiny_config
from mmdet.registry import MODELS
from mmengine.registry import init_default_scope

from lossweave.studies.benchmark.passes import heads_seconds, time_passes

_SLOW = 0.01


@pytest.fixture
def featured() -> Any:
    """A detector whose heads share a layer, combined at the features."""
    init_default_scope("mmdet")
    combiner = dict(type="PCGrad", boundary="features")
    return MODELS.build(tiny_config(combiner, shared=True)).train()


def _wait() -> None:
    """Nothing is to be waited for on a CPU."""


def _busy() -> None:
    until = process_time() + _SLOW
    while process_time() < until:
        pass


def _counting(passed: Counter[str], name: str) -> Any:
    """A hook that counts the backwards through what a module returns."""

    def hook(module: Any, inputs: Any, output: Any) -> None:
        output.register_hook(lambda grad: passed.update([name]))

    return hook


def test_what_terms_share_above_the_features_is_passed_once_per_term_and_once(featured) -> None:
    passed: Counter[str] = Counter()
    for name in ("backbone", "tower", "cls_head", "box_head"):
        featured.get_submodule(name).register_forward_hook(_counting(passed, name))
    heads_seconds(featured, tiny_batch(0), False, _wait)
    assert passed == {"tower": 3, "cls_head": 2, "box_head": 2}
    assert all(parameter.grad is None for parameter in featured.parameters())


@pytest.mark.parametrize("flip", [False, True])
def test_seconds_stand_in_the_order_of_the_terms(flip: bool, featured) -> None:
    featured.cls_head.register_full_backward_hook(lambda *_: _busy())
    together, cls, box = heads_seconds(featured, tiny_batch(0), flip, _wait)
    assert box < _SLOW <= min(together, cls)


def test_medians(featured) -> None:
    stock = MODELS.build(dict(type="TinyDetector", shared=True)).train()
    found = time_passes(stock, featured, tiny_batch(0), 2, _wait)
    assert len(found.heads_by_term) == 2
    assert min(found.forward, found.backward, found.heads, *found.heads_by_term) > 0
