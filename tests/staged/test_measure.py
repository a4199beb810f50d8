"""What a stage costs, summed over sessions."""

from typing import Any

import pytest

from lossweave.staged import measure as measuring
from lossweave.staged.measure import StageMeasure
from lossweave.staged.record import StageRecord


class _Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    made = _Clock()
    monkeypatch.setattr(measuring.time, "perf_counter", made)
    return made


def _iteration(measure: StageMeasure, clock: _Clock, seconds: float, after: float = 0.0) -> None:
    clock.now += seconds
    measure.tick()
    clock.now += after  # a checkpoint is written, say
    measure.resume_clock()


def test_what_is_no_iteration_does_not_count(clock: _Clock) -> None:
    measure = StageMeasure(StageRecord("rpn1"))
    measure.begin(batch_size=4, accumulation=2)
    for seconds in (1.0, 3.0, 2.0):
        _iteration(measure, clock, seconds, after=50.0)
    measure.point({"rpn_cls": 0.5})
    measure.write()
    record = measure.record
    assert (record.seconds, record.seconds_per_iteration) == (6.0, 2.0)
    assert (record.iterations, record.image_passes, record.optimizer_steps) == (3, 12, 2)
    assert [(p.iteration, p.seconds) for p in record.curve] == [(3, 6.0)]


def test_sessions_add_up_and_what_was_thrown_away_does_not_count(clock: _Clock) -> None:
    record = StageRecord("rpn1")
    first = StageMeasure(record)
    first.begin(batch_size=2)
    _iteration(first, clock, 1.0)
    kept: Any = first.state_dict()
    _iteration(first, clock, 9.0)  # lost: no checkpoint has it
    second = StageMeasure(record)
    second.load_state_dict(kept)
    clock.now += 1000.0
    second.begin(batch_size=2)
    _iteration(second, clock, 2.0)
    second.write()
    assert (record.iterations, record.seconds) == (2, 3.0) and record.peak_memory


def test_a_session_that_has_not_begun_writes_nothing() -> None:
    record = StageRecord("rpn1", iterations=7)
    StageMeasure(record).write()
    assert record.iterations == 7
