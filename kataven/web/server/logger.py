"""Writes gunicorn's log lines in the same format as all others: one JSON object per line, without secrets."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from gunicorn import glogging

from kataven import logs

_log = logging.getLogger("kataven.wsgi")


class JsonLogger(glogging.Logger):  # type: ignore[misc]  # gunicorn has no annotations
    """gunicorn's `logger_class`. Once it is created, this process and its workers write only JSON."""

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
    """`wsgi.errors`: writes lines to the log. gunicorn's own stream writes them to standard error unformatted."""

    def write(self, text: str) -> int:
        for line in text.splitlines():
            if line.strip():
                _log.error(line)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        """Does nothing: `write` does not buffer."""


ERRORS = ErrorStream()
