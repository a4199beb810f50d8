"""Train a detector with its losses combined; ``--help`` has examples."""

from lossweave.cli.main import run, train

if __name__ == "__main__":
    run(train)
