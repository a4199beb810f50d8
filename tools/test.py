"""Evaluate a detector's checkpoint; ``--help`` has an example."""

from lossweave.cli.main import run, test

if __name__ == "__main__":
    run(test)
