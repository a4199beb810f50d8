"""MMEngine's runner for several trainings in one process, with a terminal one can read."""

import logging
from typing import Any

from mmengine.logging import MMLogger
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from mmengine.visualization import Visualizer

__all__ = ["StudyRunner"]

_LONGEST = 15


class _Concise(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        # MMEngine says a line per parameter and option where options differ by parameter.
        return message.count("\n") <= _LONGEST and not message.startswith("paramwise_options")


@RUNNERS.register_module()
class StudyRunner(Runner):
    """A Runner that can follow another one in the same process, and says less.

    Long dumps (environment, config, hooks, options of parameters) go to the log file alone.
    The visualizer is a new one even where the config gives it a name: the stock Runner finds
    the earlier training's under that name, and logs into that one's directory.

    In a config::

        custom_imports = dict(imports=['lossweave.studies.runs.console'])
        runner_type = 'StudyRunner'
    """

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """The stock logger; its terminal leaves long messages out."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_Concise())
        return logger

    def build_visualizer(self, visualizer: Any = None) -> Visualizer:
        """The stock visualizer, named after this training."""
        if isinstance(visualizer, dict):
            visualizer = {**visualizer, "name": self.experiment_name}
        return super().build_visualizer(visualizer)
