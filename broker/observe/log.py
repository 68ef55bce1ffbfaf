"""Loggers of this package: structlog on top of the standard library's logging.

A library does not choose where its host's logs go, so nothing is printed unless the host configures
logging (warnings reach stderr, as the standard library does it). Events are one JSON object a line, or
for a person at a terminal if the host asks for it; both escape every id and text that came from outside (DESIGN
section 6, trap T33).
"""

from __future__ import annotations

import logging

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_as_json = structlog.processors.JSONRenderer()
_console: structlog.dev.ConsoleRenderer | None = None


def use_console(*, colors: bool = True) -> None:
    """From now on lines are for a person at a terminal; control characters in values are shown, not obeyed."""
    global _console
    _console = structlog.dev.ConsoleRenderer(
        colors=colors, repr_native_str=True, exception_formatter=structlog.dev.plain_traceback
    )


def renderer() -> Processor:
    """What makes an event a line, as the loggers of this process do it."""
    return _as_json if _console is None else _console


def _render(logger: WrappedLogger, name: str, event: EventDict) -> str | bytes:
    line = renderer()(logger, name, event)
    return line if isinstance(line, bytes) else str(line)


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose events are JSON lines on the standard logger `name`."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _render,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return logger
