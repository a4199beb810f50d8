"""Make the reports and plots of docs/results from their ledgers; ``--help`` has examples."""

from lossweave.cli.main import run
from lossweave.studies.results.cli import results

if __name__ == "__main__":
    run(results)
