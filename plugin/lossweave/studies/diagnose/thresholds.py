"""The thresholds behind every verdict, in one place; docs/diagnose.md says them in words."""

__all__ = [
    "BINDS",
    "CLIPPED",
    "CONFIDENT",
    "CONFLICT",
    "EVEN",
    "FAR",
    "FEW",
    "HELD",
    "HELD_OFTEN",
    "TINY",
]

#: Gradients whose lengths are within this factor of each other are of even scale.
EVEN = 3.0
#: From this factor on they are out of scale: the shorter one decides next to nothing.
FAR = 10.0
#: A mean cosine at or below this is a conflict; within plus and minus it, nearly orthogonal.
CONFLICT = 0.1
#: A term is held back by a step that lowers it, to first order, by less than this part of what a
#: step along its own gradient would.
HELD = 0.1
#: A term that is held back in this share of the batches, or more, leaves something to mend.
HELD_OFTEN = 0.1
#: Clipping that leaves less than this of a gradient's length binds ...
CLIPPED = 0.999
#: ... and where it does so in this share of the updates, or more, it sets the steps' length.
BINDS = 0.5
#: Adam's denominators of less than this many epsilons feel the losses' overall scale.
TINY = 10.0
#: Standard errors by which a mean has to differ from zero before its sign counts as known; a mean
#: gradient whose squared length does not is not told from noise.
CONFIDENT = 2.0
#: Looks below which nothing is said.
FEW = 4
