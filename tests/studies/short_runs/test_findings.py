"""What counts as finite and falling."""

from helpers.combiner_cases import registered_gradient
from helpers.synthetic_runs import training_row, write_scalars

from lossweave.combiners import GradientCombiner, combiner_class
from lossweave.studies.short_runs.findings import ShortRun, gradient_combiners, judged
from lossweave.studies.short_runs.report import summary


def test_all_gradient_combiners_are_trained() -> None:
    names = gradient_combiners()
    assert sorted(names) == sorted(registered_gradient()) and names
    assert all(issubclass(combiner_class(name), GradientCombiner) for name in names)


def test_means_and_falls() -> None:
    run = ShortRun("ssd", "Sum", {"cls": [9.0, 7.0, *[5.0] * 6, 2.0, 4.0],
                                  "loc": [1.0, 1.0, *[5.0] * 6, 2.0, 2.0]}, True, 1.0)  # fmt: skip
    assert run.means("cls") == (8.0, 3.0) and run.total == (9.0, 5.0)
    assert run.fell and run.good and run.rose == ["loc"]
    rising = ShortRun("ssd", "Sum", {"cls": [1.0] * 5 + [1.1] * 5}, True, 1.0)
    assert not rising.fell and not rising.good
    level = ShortRun("ssd", "Sum", {"cls": [1.0] * 10}, True, 1.0)
    assert not level.fell and level.rose == ["cls"]


def test_a_nan_is_found(tmp_path) -> None:
    rows = [training_row(step, cls=10.0 - step) for step in range(1, 6)]
    write_scalars(tmp_path / "good", "1", rows)
    assert judged(tmp_path / "good", "ssd", "DWA", True, 1.0).good
    assert not judged(tmp_path / "good", "ssd", "DWA", False, 1.0).good  # of the weights
    rows[2] = training_row(3, cls=float("nan"))
    write_scalars(tmp_path / "bad", "1", rows)
    run = judged(tmp_path / "bad", "ssd", "DWA", True, 1.0)
    assert not run.finite and not run.good
    assert judged(tmp_path / "none", "ssd", "DWA", True, 1.0).error
    header, table = summary([run])
    assert table[0][header.index("finite")] == "NO"
