"""Make the demo data, digits on photographs in COCO format; ``--help`` has examples."""

from lossweave.cli.main import run
from lossweave.studies.demo.data_cli import make_data

if __name__ == "__main__":
    run(make_data)
