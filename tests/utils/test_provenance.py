"""On what a number was measured."""

from lossweave.utils.provenance import machine, versions


def test_machine_names_no_host() -> None:
    import socket

    assert socket.gethostname() not in str(machine())
    assert {"python", "torch", "lossweave"} <= set(versions())
