"""Shared by all tests: one thread per process, no accelerator, quiet frameworks."""

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Kernels on a GPU add up in any order, and many tests ask for equality to the last bit: what needs
# a GPU is marked so, and `make test-gpu` runs that alone.
if os.environ.get("LOSSWEAVE_GPU_TESTS") != "1":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

import pytest
import torch

torch.set_num_threads(1)
pytest.register_assert_rewrite("helpers")


@pytest.fixture(autouse=True)
def _default_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="module")
def _young_objects() -> None:
    """What earlier modules left is not looked at by this one's collections of garbage.

    Every data set of MMEngine collects as it is built, and so do stages and statistics: seconds,
    where thousands of tests' modules and results are there to be looked at.
    """
    gc.collect()
    gc.freeze()
