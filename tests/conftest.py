"""Shared by all tests: one thread per process, no accelerator, quiet frameworks."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(1)
pytest.register_assert_rewrite("helpers")


@pytest.fixture(autouse=True)
def _default_seed() -> None:
    torch.manual_seed(0)
