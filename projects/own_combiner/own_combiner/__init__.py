"""A combiner of one's own, in a package of one's own."""

from own_combiner.harmonic import Harmonic

__all__ = ["Harmonic", "setup_environment"]


def setup_environment() -> None:
    """What Detectron2 calls where ``DETECTRON2_ENV_MODULE=own_combiner`` is set.

    Importing the package has registered the combiner, so nothing is left to do.
    """
