"""The table of the zoo."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lossweave.studies.report.tables import markdown_table
from lossweave.studies.zoo.catalog import Entry
from lossweave.studies.zoo.trial import COMBINERS, Trial
from lossweave.utils.files import write_atomically
from lossweave.utils.provenance import machine_line

__all__ = ["write_zoo", "zoo_report"]


def write_zoo(
    path: Path,
    framework: str,
    trials: Iterable[Trial],
    entries: Sequence[Entry],
    without: Mapping[str, str],
    origin: Mapping[str, Any],
) -> None:
    """Write :func:`zoo_report` to a file."""
    write_atomically(path, zoo_report(framework, list(trials), entries, without, origin).encode())


def zoo_report(
    framework: str,
    trials: Sequence[Trial],
    entries: Sequence[Entry],
    without: Mapping[str, str],
    origin: Mapping[str, Any],
) -> str:
    """What was tried, by folder of the zoo; then what failed, and what stock does not train.

    Args:
        framework: whose zoo.
        trials: a trial a model.
        entries: the zoo's models.
        without: configs that have no model, with the reason.
        origin: as :func:`lossweave.utils.provenance.provenance` has it.
    """
    names = {trial.configs[0] for trial in trials}
    tried = sum(len(trial.configs) for trial in trials)
    total = sum(len(entry.names) for entry in entries)
    kinds = {entry.kind for entry in entries}
    kinds_tried = {entry.kind for entry in entries if entry.names[0] in names}
    trained = [trial for trial in trials if not trial.stock]
    count = sum(len(trial.configs) for trial in trained)
    good = sum(len(trial.configs) for trial in trained if trial.good)
    versions = origin["versions"]
    parts = [
        f"# {_NAMES[framework]}'s zoo, config by config",
        "One training step (forward, backward) of every model in the zoo: the stock model, and "
        "the same weights, images and random states with `--combiner` "
        + ", ".join(f"`{name}`" for name in COMBINERS)
        + " and no `--terms`. *Sum* must leave the stock loss, gradients and buffers to the last "
        "bit; the others must give every parameter that stock trains a finite gradient. Backbones "
        "are not pretrained, images are random, a second stage trains on at most 16 regions of "
        "each. Configs with the same model are tried once. " + _sizes(trained),
        f"{tried} of {total} configs with a model are tried ({len(trials)} of {len(entries)} "
        f"models, {len(kinds_tried)} of {len(kinds)} kinds, which differ in more than backbone and "
        f"sizes); stock trains a step in {count}; in {good} of these all {len(COMBINERS)} "
        f"combiners do what they should. {len(without)} more files have no model of their own or "
        "cannot be read.",
        f"`{origin['command']}`, {origin['date']}, "
        f"{' '.join([framework, versions.get(framework, '')]).strip()}, torch "
        f"{versions.get('torch')}; {machine_line(origin['machine'])}.",
        markdown_table(_HEADER, [_row(name, found) for name, found in _folders(trials).items()]),
    ]
    bad = [trial for trial in trained if not trial.good]
    if bad:
        rows = [[t.configs[0], _problems(t)] for t in bad]
        parts += ["## What is not as it should be", markdown_table(["config", "what"], rows)]
    at_features = [trial for trial in trained if trial.features]
    if at_features:
        rows = [[t.configs[0], _cell(t.features)] for t in at_features]
        parts += [
            "## Where gradients are combined at the features",
            "With `--combiner-options boundary=features`, as the refusal at the parameters says.",
            markdown_table(["config", "why"], rows),
        ]
    varying = [trial.configs[0] for trial in trained if trial.varies]
    if varying:
        parts.append(
            "In these the stock step does not repeat to the last bit itself; the sum is as near to "
            "it as it is to itself: " + ", ".join(varying) + "."
        )
    idle = [trial for trial in trials if trial.stock]
    if idle:
        parts += [
            "## What stock does not train here",
            markdown_table(["config", "why"], [[t.configs[0], _cell(t.stock)] for t in idle]),
        ]
    return "\n\n".join(parts) + "\n"


_NAMES = {"mmdet": "MMDetection", "detectron2": "Detectron2"}
_HEADER = ["folder", "configs", "stock trains", *COMBINERS, "terms"]


def _sizes(trained: Sequence[Trial]) -> str:
    """How wide the images were, where stock trains."""
    found = Counter(trial.size for trial in trained)
    words = [f"{size} pixels in {found[size]}" for size in sorted(found)]
    return f"Width of the images, in models: {', '.join(words)}." if words else ""


def _folders(trials: Sequence[Trial]) -> dict[str, list[Trial]]:
    found: dict[str, list[Trial]] = {}
    for trial in trials:
        found.setdefault(trial.configs[0].partition("/")[0], []).append(trial)
    return dict(sorted(found.items()))


def _row(folder: str, trials: Sequence[Trial]) -> list[str]:
    trained = [trial for trial in trials if not trial.stock]
    cells = [str(sum(len(t.configs) for t in trials)), str(sum(len(t.configs) for t in trained))]
    for combiner in COMBINERS:
        fine = sum(len(t.configs) for t in trained if not t.results.get(combiner, "missing"))
        cells.append(str(fine))
    kinds = Counter(_kind(trial) for trial in trained)
    return [folder, *cells, ", ".join(kinds)]


def _kind(trial: Trial) -> str:
    return "task" if trial.terms == ["cls", "loc"] else f"loss ({len(trial.terms)})"


def _problems(trial: Trial) -> str:
    return _cell("; ".join(f"{name}: {what}" for name, what in trial.results.items() if what))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
