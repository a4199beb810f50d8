"""Try every config of MMDetection's zoo with combiners; ``--help`` has examples."""

import os

# Threads that wait without spinning, decided before torch is loaded: where something else runs
# on the same cores, spinning makes an iteration several times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from lossweave.cli.main import run
from lossweave.studies.zoo.cli import zoo

if __name__ == "__main__":
    run(zoo)
