"""Loggers of this package: structlog on top of the standard library's logging.

A library does not choose where its host's logs go, so nothing is printed unless the host configures
logging (warnings reach stderr, as the standard library does it). Events are one JSON object a line, which
also escapes every id and text that came from outside (DESIGN section 6, trap T33).
"""

from __future__ import annotations

import logging

import structlog


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose events are JSON lines on the standard logger `name`."""
    logger: structlog.stdlib.BoundLogger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return logger
