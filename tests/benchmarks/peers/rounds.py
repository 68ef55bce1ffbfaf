"""All contenders in the same rounds, one after the other, on one Redis that is emptied between them."""

import asyncio
import importlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.peers import installs
from tests.benchmarks.peers.contender import Contender
from tests.benchmarks.peers.outcome import Outcome
from tests.benchmarks.peers.scene import DEAD, DROP, PLAIN, Player, Scene, play

NAMES = ("ours", "ray", "arq", "saq", "docket", "celery", "taskiq", "rq", "dramatiq")
SIZES = (100, 1_000)
SHORT_SIZES = (20,)
WRONG_SIZE = 100  # of the scenes in which something goes wrong
SCENE_S = 300.0


@dataclass(frozen=True)
class Played:
    """One scene of one round: what it came to, or why there is nothing to say."""

    contender: str
    variant: str
    scene: str
    tasks: int
    outcome: Outcome | None = None
    failure: str = ""

    @property
    def key(self) -> tuple[str, str, str, int]:
        return self.contender, self.variant, self.scene, self.tasks


@dataclass(frozen=True)
class Programme:
    """Every scene of one round, in the order in which they are played."""

    scenes: Sequence[tuple[Player, Scene, int]]
    not_installed: Sequence[Played]
    versions: dict[str, dict[str, str]]
    knows: dict[str, str]
    not_tried: dict[str, str]


def modules(only: Sequence[str]) -> list[str]:
    unknown = set(only) - set(NAMES)
    if unknown:
        raise SystemExit(f"--peers {' '.join(sorted(unknown))}: there are {', '.join(NAMES)}")
    return [f"{__package__}.{name}" for name in NAMES if not only or name in only]


def prepare(names: Sequence[str], sizes: Sequence[int], folder: Path, say: Callable[[str], None]) -> Programme:
    """Installs what is not yet installed. What pip cannot install is a result."""
    players: list[Player] = []
    missing: list[Played] = []
    versions: dict[str, dict[str, str]] = {}
    contenders: list[Contender] = []
    for module in names:
        contender: Contender = importlib.import_module(module).CONTENDER
        contenders.append(contender)
        try:
            python = installs.python_for(contender, folder)
            versions[contender.name] = installs.versions(contender, python)
        except Exception as error:  # noqa: BLE001 - a contender that cannot be installed is reported as such
            missing.append(Played(contender.name, "", "install", 0, failure=f"{type(error).__name__}: {error}"))
            say(f"{contender.name}: not installed: {error}")
            continue
        say(f"{contender.name}: " + ", ".join(f"{name} {number}" for name, number in versions[contender.name].items()))
        players += [Player(contender, variant, python, module) for variant in contender.variants]
    not_tried = {one.name: f"N > {one.largest:,}: {one.why_not_more}" for one in contenders if one.why_not_more}
    knows = {one.name: one.knows for one in contenders}
    return Programme(_scenes(players, sizes), missing, versions, knows, not_tried)


def _scenes(players: Sequence[Player], sizes: Sequence[int]) -> list[tuple[Player, Scene, int]]:
    plain = [(one, PLAIN, size) for size in sizes for one in players if size <= one.contender.largest]
    firsts = [one for one in players if one.variant is one.contender.variants[0]]
    wrong = min(WRONG_SIZE, max(sizes))
    dropped = [(one, DROP, wrong) for one in firsts if one.contender.uses_redis]
    return plain + dropped + [(one, DEAD, wrong) for one in firsts]


async def play_rounds(
    programme: Programme, url: str, rounds: int, empty_redis: Callable[[], object], say: Callable[[str], None]
) -> list[Played]:
    """`rounds` of the plain scene; what goes wrong is played in the first. What failed is not played again."""
    played = list(programme.not_installed)
    failed: set[tuple[str, str, str, int]] = set()
    for number in range(1, rounds + 1):
        for player, scene, size in programme.scenes:
            key = (player.contender.name, player.variant.label, scene.name, size)
            if key in failed or (number > 1 and scene is not PLAIN):
                continue
            empty_redis()
            one = await _play(player, scene, url, size)
            played.append(one)
            if one.failure:
                failed.add(key)
            say(f"round {number}  {_as_line(one)}")
    return played


async def _play(player: Player, scene: Scene, url: str, size: int) -> Played:
    names = (player.contender.name, player.variant.label, scene.name, size)
    try:
        async with asyncio.timeout(SCENE_S):
            return Played(*names, outcome=await play(player, scene, url, size))
    except TimeoutError as error:
        return Played(*names, failure=str(error) or f"not over after {SCENE_S:g} s")
    except Exception as error:  # noqa: BLE001 - a contender that fails is a result: the others are still wanted
        return Played(*names, failure=f"{type(error).__name__}: {error}")


def _as_line(one: Played) -> str:
    name = f"{one.contender} {one.variant}".strip()
    if one.outcome is None:
        return f"{name}  {one.scene}  N={one.tasks}  FAILED  {one.failure}"
    end = one.outcome
    return (
        f"{name}  {one.scene}  N={one.tasks}  stopped {end.stopped}  last stop {_ms(end.last_stop_ms)}  "
        f"confirmed {end.confirmed}  knows {_ms(end.knows_ms)}  false {end.false}"
    )


def _ms(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f} ms"


def as_json(programme: Programme, played: Sequence[Played]) -> dict[str, Any]:
    return {
        "versions": programme.versions,
        "knows": programme.knows,
        "not_tried": programme.not_tried,
        "played": [asdict(one) for one in played],
    }
