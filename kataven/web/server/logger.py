"""gunicorn's own lines, written like every other: one JSON object a line, without secrets."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from gunicorn import glogging

from kataven import logs

_log = logging.getLogger("kataven.wsgi")


class JsonLogger(glogging.Logger):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's `logger_class`. From its making on, this process and its workers write nothing but JSON."""

    def setup(self, cfg: Any) -> None:
        super().setup(cfg)
        logs.capture_all_output()

    def _set_handler(self, log: logging.Logger, output: str | None, fmt: logging.Formatter, stream: Any = None) -> None:
        super()._set_handler(log, output, logs.formatter(), stream)

    def _set_syslog_handler(self, log: logging.Logger, cfg: Any, fmt: str, name: str) -> None:
        super()._set_syslog_handler(log, cfg, fmt, name)
        for handler in log.handlers:
            handler.setFormatter(logs.formatter())


class ErrorStream:
    """`wsgi.errors`: lines for the log. gunicorn's own writes them to standard error as they are."""

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if line.strip():
                _log.error(line)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        """Every line is written at once."""


ERRORS = ErrorStream()
