"""Compare combiners over several seeds, beside a tuned sum; ``--help`` has examples."""

from lossweave.cli.main import run
from lossweave.studies.compare.cli import compare

if __name__ == "__main__":
    run(compare)
