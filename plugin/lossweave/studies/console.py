"""MMEngine's runner with a terminal that one can read."""

import logging
from typing import Any

from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

__all__ = ["ConciseRunner"]

_LONGEST = 15


class _Concise(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return record.getMessage().count("\n") <= _LONGEST


@RUNNERS.register_module()
class ConciseRunner(Runner):
    """A Runner whose long dumps (environment, config, list of hooks) go to the log file alone.

    In a config::

        custom_imports = dict(imports=['lossweave.studies.console'])
        runner_type = 'ConciseRunner'
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """The stock logger; its terminal leaves out messages of more than 15 lines."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_Concise())
        return logger
