"""The ledger of results: what was trained, on what, by which code, and what came of it."""

from lossweave.studies.ledger.ledger import Reading, append, read
from lossweave.studies.ledger.result import Code, Machine, Result

__all__ = ["Code", "Machine", "Reading", "Result", "append", "read"]
