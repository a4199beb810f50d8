"""Whether the weights of a detector's losses matter, and which; ``--help`` has examples."""

from lossweave.cli.main import run
from lossweave.studies.diagnose.cli import diagnose

if __name__ == "__main__":
    run(diagnose)
