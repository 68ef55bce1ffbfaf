"""A floor and a figure, measured in turns, and what one is to the other."""

import statistics
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

Measure = Callable[[str], Awaitable[dict[str, float]]]  # Redis URL → values by key, milliseconds unless a row says else


@dataclass(frozen=True)
class Measurement:
    name: str
    measure: Measure


@dataclass(frozen=True)
class Case:
    """One thing to measure, by the name that `--only` takes."""

    name: str
    figure: Measurement
    floor: Measurement | None = None

    @property
    def sides(self) -> tuple[Measurement, ...]:
        """The floor first: right after it the figure."""
        return (self.floor, self.figure) if self.floor else (self.figure,)


@dataclass(frozen=True)
class Row:
    """One line of the table. `floor` and `figure` are `measurement.key`; the floor may be empty.

    `target` is the largest ratio allowed, or where the row is `absolute` the largest value, in `unit`.
    """

    name: str
    figure: str
    floor: str
    n: int
    target: float | None
    unit: str = "ms"
    absolute: bool = False

    @property
    def measurements(self) -> set[str]:
        return {key.partition(".")[0] for key in (self.figure, self.floor) if key}


@dataclass
class Rounds:
    """What was measured: per round the milliseconds by `measurement.key`, and what went wrong, by measurement."""

    taken: list[dict[str, float]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)

    def samples(self, key: str) -> list[float]:
        return [taken[key] for taken in self.taken if key in taken]

    def ratios(self, row: Row) -> list[float]:
        """Figure over floor of the same round."""
        both = [(taken.get(row.figure), taken.get(row.floor)) for taken in self.taken]
        return [figure / floor for figure, floor in both if figure is not None and floor]

    def judged(self, row: Row) -> list[float]:
        """What the target is about."""
        return self.samples(row.figure) if row.absolute else self.ratios(row)


@dataclass(frozen=True)
class Spread:
    median: float
    min: float
    max: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> "Spread | None":
        return cls(statistics.median(samples), min(samples), max(samples)) if samples else None


async def measure_rounds(
    cases: Sequence[Case], url: str, rounds: int, empty_redis: Callable[[], object], say: Callable[[str], None]
) -> Rounds:
    """Every round takes each floor and right after it its figure. What failed once is not measured again."""
    result = Rounds()
    for number in range(1, rounds + 1):
        taken: dict[str, float] = {}
        result.taken.append(taken)
        for measurement in (side for case in cases for side in case.sides):
            if measurement.name in result.failures:
                continue
            empty_redis()
            try:
                measured = await measurement.measure(url)
            except Exception as error:  # noqa: BLE001 - a figure that fails is a result: the others are still wanted
                result.failures[measurement.name] = f"{type(error).__name__}: {error}"
                say(f"round {number}  {measurement.name}  FAILED  {result.failures[measurement.name]}")
                continue
            taken.update({f"{measurement.name}.{key}": value for key, value in measured.items()})
            shown = "  ".join(f"{key} {value:.4g}" for key, value in measured.items() if ":" not in key)
            say(f"round {number}  {measurement.name}  {shown}")
    return result
