"""The study: what is written, what is kept, what is refused."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lossweave.combiners import combiner_names
from lossweave.errors import LossweaveError
from lossweave.studies.simulate import study
from lossweave.studies.simulate.cli import simulate
from lossweave.studies.simulate.study import Simulation, run_simulation

ROOT = Path(__file__).parents[3]


def small(out, **options):
    options = {"combiners": ("Sum", "Product"), "scales": (1.0, 100.0), **options}
    return Simulation(steps=4, settle=3, jobs=1, out=str(out), **options)


@pytest.fixture
def counted(monkeypatch):
    """The combiners that were simulated, not read again; nothing is drawn."""
    monkeypatch.setattr(study, "write_pictures", lambda *_: None)
    monkeypatch.setattr(study, "write_page", lambda *_: None)
    names = []
    real = study.simulate_combiner

    def counting(name, *settings):
        names.append(name)
        return real(name, *settings)

    monkeypatch.setattr(study, "simulate_combiner", counting)
    return names


def test_every_file_is_written(tmp_path):
    record = run_simulation(small(tmp_path))
    for name in ("simulate.png", "fields.png", "paths.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert json.loads((tmp_path / "simulate.json").read_text()) == json.loads(json.dumps(record))
    assert list(record["combiners"]) == ["Sum", "Product"]
    assert len(record["combiners"]["Sum"]["outcomes"]) == 2 * 2 * 2 * 3
    assert record["thresholds"]["reached"] == 0.01
    report = (tmp_path / "simulate.md").read_text()
    assert "| `Product` | 2.00 | 0.00 | 0.001 |" in report
    assert "- **Product.** The step grows as the square" in report


def test_what_is_there_is_kept(tmp_path, counted):
    first = run_simulation(small(tmp_path))
    assert counted == ["Sum", "Product"]
    second = run_simulation(small(tmp_path, combiners=("Sum", "Product", "Max")))
    assert counted == ["Sum", "Product", "Max"]
    assert second["combiners"]["Sum"] == first["combiners"]["Sum"]


def test_other_settings_are_computed_anew(tmp_path, counted):
    run_simulation(small(tmp_path))
    run_simulation(small(tmp_path, seed=1))
    assert counted == ["Sum", "Product"] * 2


def test_a_broken_part_is_computed_anew(tmp_path, counted):
    run_simulation(small(tmp_path))
    (tmp_path / "parts" / "Sum.json").write_text("{")
    (tmp_path / "parts" / "Product.json").write_text("[1]")
    run_simulation(small(tmp_path))
    assert counted == ["Sum", "Product"] * 2


def test_an_interrupted_run_goes_on(tmp_path, counted, monkeypatch):
    real = study.simulate_combiner

    def interrupted(name, *settings):
        if name == "Product":
            raise KeyboardInterrupt
        return real(name, *settings)

    with monkeypatch.context() as context:
        context.setattr(study, "simulate_combiner", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run_simulation(small(tmp_path))
    run_simulation(small(tmp_path))
    assert counted == ["Sum", "Product"]


def test_a_run_gives_the_same_numbers_again(tmp_path, counted):
    one = run_simulation(small(tmp_path / "one", combiners=("RandomWeighting", "GradDrop")))
    other = run_simulation(small(tmp_path / "other", combiners=("RandomWeighting", "GradDrop")))
    assert one["combiners"] == other["combiners"]
    assert counted == ["RandomWeighting", "GradDrop"] * 2


def test_all_registered_combiners_unless_named():
    assert Simulation().names == tuple(combiner_names())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"combiners": ("Summ",)}, "unknown combiner 'Summ'; did you mean 'Sum'"),
        ({"combiners": ("Sum", "Sum")}, "--combiners should name each once"),
        ({"combiners": ()}, "at least one"),
        ({"scales": ()}, "at least one"),
        ({"scales": (0.0,)}, "--scales: 0 should be a number from 1e-06 to 1e+06"),
        ({"scales": (-1.0,)}, "--scales: -1 should"),
        ({"scales": (float("nan"),)}, "--scales: nan should"),
        ({"scales": (float("inf"),)}, "--scales: inf should"),
        ({"scales": (1.0, 1.0)}, "--scales should name each once"),
        ({"steps": 0}, "--steps=0 should be at least 1"),
        ({"settle": -3}, "--settle=-3 should be at least 1"),
        ({"jobs": 0}, "--jobs=0 should be at least 1"),
        ({"seed": -1}, "--seed=-1 should be from 0"),
        ({"out": __file__}, "is a file, but should be a folder"),
    ],
)
def test_wrong_input_is_one_line(options, words):
    with pytest.raises(LossweaveError) as error:
        Simulation(**options)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_command_line(tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("lossweave.studies.simulate.cli.run_simulation", seen.append)
    simulate(["--combiners", "Sum", "--scales", "0.1", "10", "--seed", "3", "--steps", "7",
              "--settle", "5", "--jobs", "2", "--out", str(tmp_path)])  # fmt: skip
    assert seen == [
        Simulation(("Sum",), (0.1, 10.0), 3, 7, 5, 2, str(tmp_path), seen[0].command)
    ]
    assert seen[0].command.startswith("python tools/simulate.py --combiners Sum")


def test_tool_ends_wrong_input_with_one_line():
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "simulate.py"), "--combiners", "Nothing"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: unknown combiner 'Nothing'")
