"""Killed by SIGKILL in named moments, and gone on with in fresh processes (see ``make kills``)."""

from pathlib import Path

import pytest
from helpers.kills.chain import Chain, assert_same_end
from helpers.kills.configs import write_config
from helpers.kills.moments import signals, some


@pytest.mark.parametrize("kind", ["mmdet/staged", "mmdet/plain"])
def test_it_ends_bit_identical(kind: str, data: Path, tmp_path: Path) -> None:
    chain = Chain(kind, write_config(kind, data, tmp_path), data, tmp_path)
    killed: list[str] = []
    try:
        assert_same_end(chain.whole(), chain.killed(some(kind), "killed", killed.append))
    finally:
        chain.close()
    assert len(killed) == len(some(kind)) >= 3


def test_signals_stop_it_with_a_status_that_says_so(data: Path, tmp_path: Path) -> None:
    """SIGINT, SIGTERM and SIGHUP in stages, passes, evaluations and between: exit status 130."""
    kind, asked = "mmdet/staged", list[str]()
    chain = Chain(kind, write_config(kind, data, tmp_path), data, tmp_path)
    try:
        assert_same_end(chain.whole(), chain.killed(signals(kind), "asked", asked.append))
    finally:
        chain.close()
    assert len(asked) == len(signals(kind))
