"""What is said of a contender before it runs. Nothing here imports one: the harness has none of them installed."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Variant:
    """One way to set a contender up. `label` is empty for the defaults of its manual."""

    label: str = ""
    options: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Contender:
    """`knows` is what the caller goes by, in the words of the contender's manual."""

    name: str
    requirements: tuple[str, ...]
    """What pip installs; empty for this project, which runs with the interpreter of the harness."""

    shown: tuple[str, ...]
    """Distributions whose versions are printed."""

    knows: str
    variants: tuple[Variant, ...] = (Variant(),)
    workers: int = 2
    """Worker processes started beside the caller; 0 where the caller starts what it needs."""

    largest: int = 1_000
    """More tasks than this are not tried, for the reason in `why_not_more`."""

    why_not_more: str = ""
    uses_redis: bool = True
    """Without it there is no connection to drop."""
