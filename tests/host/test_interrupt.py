"""Signals as requests: finished first, at once in an evaluation, agreed on by several processes."""

import multiprocessing
import signal
import time
from pathlib import Path

import pytest
from helpers.ranks import spawn
from torch import nn

from lossweave.host.hook import HostHook
from lossweave.host.interrupt import Interrupt

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_is_a_request_and_is_given_back(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    told: list[str] = []
    interrupt = Interrupt(told.append)
    with interrupt.taken():
        assert not interrupt.agreed(0)
        signal.raise_signal(number)
        assert interrupt.asked and interrupt.agreed(0)
        assert told == [f"{number.name}: finishing this iteration, then saving (Ctrl-C: stop now)"]
        signal.raise_signal(signal.SIGTERM)  # schedulers repeat theirs
        signal.raise_signal(signal.SIGHUP)
        assert len(told) == 1
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_in_an_evaluation_a_signal_stops_at_once() -> None:
    interrupt = Interrupt(lambda _: None)
    with interrupt.taken():
        with pytest.raises(KeyboardInterrupt), interrupt.at_once():
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt), interrupt.at_once():
            pytest.fail("who was asked before does not begin")


def test_one_inside_another_gives_back_to_it() -> None:
    outer, inner = Interrupt(lambda _: None), Interrupt(lambda _: None)
    with outer.taken():
        with inner.taken():
            signal.raise_signal(signal.SIGTERM)
        assert inner.asked and not outer.asked
        signal.raise_signal(signal.SIGTERM)
        assert outer.asked


def test_a_forked_worker_can_be_ended_by_its_parent() -> None:
    """As VOC's evaluation ends its pool: a worker that took it for a request would never end."""
    told: list[str] = []
    with Interrupt(told.append).taken():
        worker = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
        worker.start()
        time.sleep(0.2)
        worker.terminate()
        worker.join(20)
        ended = worker.exitcode
        worker.kill()
    assert ended == -signal.SIGTERM
    assert not told


def test_nohup_is_respected() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        interrupt = Interrupt(lambda _: None)
        with interrupt.taken():
            signal.raise_signal(signal.SIGHUP)
        assert not interrupt.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def _iterate(rank: int, folder: str, looks: bool) -> None:
    interrupt, hook = Interrupt(lambda _: None), HostHook()
    hook.begin(nn.Linear(1, 1), [])
    with interrupt.taken():
        for iteration in range(100):
            if rank == 1 and iteration == 3:
                signal.raise_signal(signal.SIGTERM)
            if looks:  # at the losses, which takes an exchange anyway
                hook.look({"loss": 1.0}, "loss")
            if interrupt.agreed(iteration):
                break
            time.sleep(0.001 * rank)
    Path(folder, f"stopped_{rank}").write_text(str(iteration))


@pytest.mark.parametrize(("looks", "last"), [(False, "9"), (True, "3")])
def test_several_processes_stop_at_the_same_iteration(tmp_path: Path, looks, last) -> None:
    spawn(_iterate, str(tmp_path), looks)
    assert [(tmp_path / f"stopped_{rank}").read_text() for rank in range(2)] == [last, last]
