"""The signal functions without the enums around them, which take a third of the start time."""

from __future__ import annotations

TYPE_CHECKING = False  # without importing typing
if TYPE_CHECKING:
    import signal
else:
    try:
        import _signal as signal
    except ImportError:  # pragma: no cover - another Python than CPython
        import signal

__all__ = ["signal"]
