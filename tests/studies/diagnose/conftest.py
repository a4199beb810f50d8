"""Fixtures of the diagnosis's tests."""

from pathlib import Path

import pytest
from helpers.mmdet_toy import write_data


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny COCO data set."""
    return write_data(tmp_path_factory.mktemp("data"))
