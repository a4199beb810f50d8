"""Taking turns by terms, beside the sums and the single tasks; ``--help`` has examples."""

from lossweave.command_line import run
from lossweave.studies.command_line import turns

if __name__ == "__main__":
    run(turns)
