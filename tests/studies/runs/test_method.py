"""Methods as typed, and the folders of their trainings."""

import pytest

from lossweave.errors import LossweaveError
from lossweave.studies.runs.method import Method, Trial


def test_trainings_at_several_rates_have_folders_of_their_own() -> None:
    plain = Trial(Method("Sum"), 0, "none.py", "out", ("a=1",))
    assert (plain.folder.name, plain.settings) == ("Sum_seed0", ("a=1",))
    rated = Trial(Method("Sum"), 0, "none.py", "out", ("a=1",), rate=5e-4)
    assert rated.folder.name == "Sum_seed0_lr0.0005"
    assert rated.settings == ("a=1", "optim_wrapper.optimizer.lr=0.0005")


def test_methods_are_parsed() -> None:
    with pytest.raises(LossweaveError, match="did you mean 'Sum'"):
        Method.parse("Summ")
    assert Method.parse("DWA period=50 temperature=1.0").folder == "DWA_period-50_temperature-1.0"
