"""What decides a training: the resolved config, the code."""

import subprocess
from pathlib import Path

import pytest
from mmengine.config import Config

from lossweave.studies.ledger import identity
from lossweave.studies.ledger.identity import config_hash, machine_of_today, without_harmless

_CONFIG = dict(
    model=dict(type="RetinaNet", combiner=dict(type="Sum"), head=dict(scales=(1, 2))),
    train_dataloader=dict(batch_size=4, num_workers=2),
    default_hooks=dict(logger=dict(interval=10), lossweave=dict(type="X", interval=5)),
    randomness=dict(seed=0),
    work_dir="here",
)


def _hash(**changes: object) -> str:
    cfg = Config(_CONFIG)
    cfg.merge_from_dict({key.replace("__", "."): value for key, value in changes.items()})
    return config_hash(cfg.to_dict())


@pytest.mark.parametrize(
    "changes",
    [
        dict(train_dataloader__num_workers=0),
        dict(default_hooks__logger__interval=1),
        dict(default_hooks__lossweave__interval=1),
        dict(randomness__seed=7),
        dict(work_dir="there"),
        dict(model__combiner__type="DWA"),
        dict(log_level="ERROR"),
    ],
)
def test_what_is_shown_or_kept_elsewhere_decides_nothing(changes: dict[str, object]) -> None:
    assert _hash(**changes) == _hash()


@pytest.mark.parametrize(
    "changes",
    [
        dict(train_dataloader__batch_size=8),
        dict(model__head__scales=(1, 3)),
        dict(default_hooks__lossweave__type="Y"),
        dict(randomness__deterministic=True),
        dict(model__terms="head"),
    ],
)
def test_what_trains_does(changes: dict[str, object]) -> None:
    assert _hash(**changes) != _hash()


def test_the_order_of_keys_decides_nothing_and_types_may_be_classes() -> None:
    assert config_hash({"a": 1, "b": {"c": 2, "d": 3}}) == config_hash(
        {"b": {"d": 3, "c": 2}, "a": 1}
    )
    assert config_hash({"type": Path}) == config_hash({"type": Path})
    assert config_hash({"type": Path}) != config_hash({"type": Config})


def test_options_that_decide_nothing_are_left_out() -> None:
    options = ("a=1", "train_dataloader.num_workers=0", "log_processor.window_size=2", "b.c=x")
    assert without_harmless(options) == ("a=1", "b.c=x")


def test_threads_are_those_of_the_training() -> None:
    assert machine_of_today(3).threads == 3
    assert machine_of_today() == machine_of_today(machine_of_today().threads)


def _repository(root: Path) -> Path:
    package = root / "plugin" / "lossweave"
    for room in ("combiners", "studies"):
        (package / room).mkdir(parents=True)
        (package / room / "a.py").write_text("a = 1\n")
    _git(root, "init", "-q")
    _commit(root)
    return package


def _git(root: Path, *words: str) -> None:
    who = ("-c", "user.name=n", "-c", "user.email=e@x")
    subprocess.run(["git", "-C", str(root), *who, *words], check=True, capture_output=True)


def _commit(root: Path) -> None:
    _git(root, "add", "-A")
    _git(root, "commit", "-q", "-m", "m")


def test_the_commit_is_the_last_that_changed_what_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = _repository(tmp_path)

    def commit() -> str | None:
        place = package / "studies" / "ledger" / "identity.py"
        monkeypatch.setattr(identity, "__file__", str(place))
        identity.code_of_today.cache_clear()
        return identity.code_of_today().commit

    first = commit()
    assert first is not None and len(first) == 12
    (package / "studies" / "a.py").write_text("a = 2\n")
    assert commit() == first
    _commit(tmp_path)
    assert commit() == first
    (package / "combiners" / "a.py").write_text("a = 2\n")
    changed = commit()
    assert changed is not None and changed.startswith(f"{first}+")
    (package / "combiners" / "a.py").write_text("a = 3\n")
    assert commit() not in (changed, first)
    (package / "combiners" / "a.py").write_text("a = 1\n")
    (package / "combiners" / "b.py").write_text("b = 1\n")
    assert commit() not in (changed, first)
    _commit(tmp_path)
    second = commit()
    assert second is not None and second != first and "+" not in second
    identity.code_of_today.cache_clear()


def test_without_a_repository_the_commit_is_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "studies").mkdir()
    monkeypatch.setattr(identity, "__file__", str(tmp_path / "studies" / "ledger" / "identity.py"))
    identity.code_of_today.cache_clear()
    assert identity.code_of_today().commit is None
    identity.code_of_today.cache_clear()
