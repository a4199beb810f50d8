"""Compare combiners over several seeds, beside a tuned sum; ``--help`` has examples."""

from lossweave.command_line import run
from lossweave.studies.command_line import compare

if __name__ == "__main__":
    run(compare)
