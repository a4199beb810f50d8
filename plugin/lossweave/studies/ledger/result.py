"""One result: a training, or a measurement of trainings, with all that decided it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from lossweave.errors import LossweaveError

__all__ = ["FORMAT", "Code", "Machine", "Result", "hashed"]

#: Of the lines in a ledger; one of a later format is refused.
FORMAT = 1


def hashed(content: Any) -> str:
    """A short hash of plain values, the same on every machine.

    Example:
        >>> hashed({"a": 1, "b": (2, 3)}) == hashed({"b": [2, 3], "a": 1})
        True
    """
    text = json.dumps(content, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Code:
    """Which code trained.

    Args:
        version: of the package.
        commit: the last one that changed what trains; None where it is not recorded.
    """

    version: str | None = None
    commit: str | None = None

    @property
    def label(self) -> str:
        """For people.

        Example:
            >>> Code("0.1.0", "1a2b3c").label, Code("0.1.0").label
            ('lossweave 0.1.0 at 1a2b3c', 'lossweave 0.1.0, commit not recorded')
        """
        at = f" at {self.commit}" if self.commit else ", commit not recorded"
        return f"lossweave {self.version or 'of a version not recorded'}{at}"


@dataclass(frozen=True)
class Machine:
    """What it was trained on; nothing that names the host.

    Args:
        cpu: the processor's model.
        threads: torch's, in the training.
        accelerator: its model; None without one.
        cores: of the machine; they decide no number and are no part of a result's key.
        system: likewise.
    """

    cpu: str | None = None
    threads: int | None = None
    accelerator: str | None = None
    cores: int | None = field(default=None, compare=False)
    system: str | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        """For people.

        Example:
            >>> Machine("AMD EPYC", 1, cores=2).label
            'AMD EPYC, 2 cores, 1 torch threads'
        """
        cores = f", {self.cores} cores" if self.cores else ""
        threads = f", {self.threads} torch threads" if self.threads else ""
        accelerator = f"; {self.accelerator}" if self.accelerator else ""
        return f"{self.cpu or 'a machine not recorded'}{cores}{threads}{accelerator}"


@dataclass(frozen=True)
class Result:
    """A line of a ledger.

    Args:
        study: whose result it is, e.g. 'compare'.
        config: the config's name, as typed.
        config_hash: of the resolved config, without what changes nothing about training, and
            without method, seed and rate; None where it is not recorded.
        method: what combines the losses, with its options, or what else was measured.
        seed: of the initial weights and of the order of the data.
        budget: what it may spend, e.g. iterations and pictures an iteration.
        options: further ``--cfg-options``.
        rate: the learning rate, where the study asked for one.
        code: which code trained.
        machine: on what.
        date: when it was finished, as YYYY-MM-DD.
        command: repeats it by hand.
        asked: the study's command that asked for it.
        scores: by name; nan where there is none.
        losses: the terms' at the end of training.
        seconds: by what took them.
        versions: of the packages that decide the numbers.
        details: what else the study needs for its report.
    """

    study: str
    config: str
    config_hash: str | None
    method: str
    seed: int
    budget: Mapping[str, int] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    rate: float | None = None
    code: Code = Code()
    machine: Machine = Machine()
    date: str = ""
    command: str = ""
    asked: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def setting(self) -> str:
        """A hash of what all trainings of a study share: results of one may be compared.

        Where no resolved config was recorded, its name and the options have to do.
        """
        config = self.config_hash or [self.config, *self.options]
        return hashed([self.study, config, self.budget])

    @property
    def training(self) -> str:
        """A hash of what was trained, whoever trained it on whatever."""
        return hashed([self.setting, self.method, self.seed, self.rate])

    @property
    def place(self) -> str:
        """The code and the machine. Results of two places are no pair."""
        return f"{self.code.label}; {self.machine.label}"

    @property
    def key(self) -> str:
        """A hash of what was trained, by which code, on what machine."""
        machine = [self.machine.cpu, self.machine.threads, self.machine.accelerator]
        return hashed([self.training, asdict(self.code), machine])

    @property
    def label(self) -> str:
        """The training in a few words."""
        rate = "" if self.rate is None else f", lr {self.rate:g}"
        return f"{self.method}, seed {self.seed}{rate}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON, with format and key."""
        return {"ledger": FORMAT, "key": self.key, **asdict(self)}

    @classmethod
    def from_dict(cls, content: Any) -> Result:
        """The result that :meth:`as_dict` made plain.

        Raises:
            LossweaveError: it is no result, of a later format, or its key does not fit it.
        """
        if not isinstance(content, dict) or "ledger" not in content:
            raise LossweaveError("no result of a ledger")
        if content["ledger"] != FORMAT:
            raise LossweaveError(f"format {content['ledger']!r} is not {FORMAT}, which is known")
        known = {f.name for f in fields(cls)}
        found = {name: value for name, value in content.items() if name not in ("ledger", "key")}
        if unknown := sorted(set(found) - known):
            raise LossweaveError(f"unknown field {unknown[0]!r}")
        try:
            result = cls(
                **{
                    **found,
                    "options": tuple(found.get("options", ())),
                    "code": Code(**found.get("code", {})),
                    "machine": Machine(**found.get("machine", {})),
                    **{name: _numbers(found.get(name, {})) for name in ("scores", "losses")},
                }
            )
        except (TypeError, ValueError, AttributeError) as error:
            raise LossweaveError(f"no result of a ledger: {error}") from None
        if content.get("key") != result.key:
            raise LossweaveError(
                f"its key {content.get('key')!r} is not that of its content, {result.key!r}"
            )
        return result


def _numbers(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: float("nan") if value is None else float(value) for name, value in values.items()}
