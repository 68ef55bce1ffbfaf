"""Loads `lua/`: the header of each file becomes a checked call.

A header is the comment block that a file begins with. Its first lines say what the script does; then
come directives, and the loader writes the script's locals from them, so that a header cannot lie:

- `KEYS name…` → `local name_key = KEYS[i]`; `run_keys` stands for all keys of a run;
- `ARGV name: meaning` → `local name = ARGV[i]`; `name...` or `(a b c)...` repeats to the end, and the
  script gets `first_name`, the index where the repetition begins;
- `RETURNS code: meaning` and `EACH code: meaning`, the words that the script answers with;
- `INCLUDE name…`: helpers of `lua/include/`, in this order.

Redis makes every table and closure of a script anew at each call, and a collector walks over what is loaded. So of the
locals and of the includes only those definitions are loaded that the script comes to use.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

from broker.store.keys import Lifetimes, RunKeys

LUA = resources.files("broker.store") / "lua"
_DIRECTIVE = re.compile(r"^-- (KEYS|ARGV|RETURNS|EACH|INCLUDE) (.*)$")
_REPEATED = re.compile(r"^\(?([a-z_ ]+)\)?\.\.\.$")
_COMMENT = re.compile(r"--[^\n]*")
_DEFINES = re.compile(r"^local (?:function )?([^=(\n]+)")
_NAME = re.compile(r"(?<![\w.'])[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Header:
    """What the head of a Lua file says."""

    keys: tuple[str, ...]
    arguments: tuple[str, ...]
    repeated: tuple[str, ...]
    returns: tuple[str, ...]
    each: tuple[str, ...]
    includes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Script:
    """One Lua verb, ready to be called by its digest."""

    name: str
    source: str
    sha: str
    header: Header

    def command(self, keys: Sequence[str], /, *repeated: str, **arguments: str) -> tuple[str, ...]:
        """The EVALSHA of one call. Raises TypeError where names or numbers do not match the header."""
        header = self.header
        if len(keys) != len(header.keys):
            raise TypeError(f"{self.name} takes the keys {header.keys}, got {len(keys)}")
        if tuple(arguments) != header.arguments:
            raise TypeError(f"{self.name} takes the arguments {header.arguments} in this order, got {tuple(arguments)}")
        if repeated and (not header.repeated or len(repeated) % len(header.repeated)):
            raise TypeError(f"{self.name} repeats {header.repeated}, got {len(repeated)} values")
        return ("EVALSHA", self.sha, str(len(keys)), *keys, *arguments.values(), *repeated)


def parse_header(text: str) -> Header:
    """Reads the directives at the head of a Lua file."""
    found: dict[str, list[str]] = {name: [] for name in ("KEYS", "ARGV", "RETURNS", "EACH", "INCLUDE")}
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        if match := _DIRECTIVE.match(line):
            found[match[1]].append(match[2])
    keys = [name for line in found["KEYS"] for name in line.split()]
    if keys == ["run_keys"]:
        keys = list(RunKeys._fields)
    names = [line.split(":")[0] for line in found["ARGV"]]
    repeated = [match[1].split() for name in names if (match := _REPEATED.match(name))]
    return Header(
        keys=tuple(keys),
        arguments=tuple(name for name in names if not name.endswith("...")),
        repeated=tuple(repeated[0]) if repeated else (),
        returns=tuple(line.split(":")[0] for line in found["RETURNS"]),
        each=tuple(line.split(":")[0] for line in found["EACH"]),
        includes=tuple(name for line in found["INCLUDE"] for name in line.split()),
    )


def _locals(header: Header) -> list[str]:
    lines = [f"local {name}_key = KEYS[{i}]" for i, name in enumerate(header.keys, 1)]
    lines += [f"local {name} = ARGV[{i}]" for i, name in enumerate(header.arguments, 1)]
    if header.repeated:
        lines.append(f"local first_{header.repeated[0]} = {len(header.arguments) + 1}")
    return lines


def _constants(lifetimes: Lifetimes) -> list[str]:
    return [
        f"local ACTIVE_TTL_MS = {lifetimes.active_s * 1000}",
        f"local RETENTION_MS = {lifetimes.retention_s * 1000}",
        f"local GATES_TTL_MS = {lifetimes.gates_s * 1000}",
    ]


def _used_by(body: str, parts: Iterable[str]) -> list[str]:
    """The definitions that `body` uses, or that one of these does. A name is defined before it is used, so one way back
    over them is enough; each begins a line with `local`, and what follows up to the next one is indented or `end`."""
    definitions = re.split(r"\n(?=local )", _COMMENT.sub("", "\n".join(["", *parts])))[1:]
    used, kept = set(_NAME.findall(_COMMENT.sub("", body))), list[str]()
    for definition in reversed(definitions):
        if used.intersection(*(_NAME.findall(names) for names in _DEFINES.findall(definition))):
            used.update(_NAME.findall(definition))
            kept.append(definition.rstrip())
    return kept[::-1]


def load_script(name: str, lifetimes: Lifetimes) -> Script:
    """Assembles one script: locals from its header, its includes, its body."""
    text = (LUA / f"{name}.lua").read_text()
    header = parse_header(text)
    parts = [*_locals(header), *_constants(lifetimes)]
    parts += [(LUA / "include" / f"{include}.lua").read_text() for include in header.includes]
    source = "\n".join([*_used_by(text, parts), text])
    # Redis names scripts by their SHA-1; nothing is secured by it.
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest(), header)


class Scripts:
    """All scripts of one set of lifetimes, an attribute for each file of `lua/`."""

    def __init__(self, lifetimes: Lifetimes) -> None:
        def load(name: str) -> Script:
            return load_script(name, lifetimes)

        self.list_operation = load("list_operation")
        self.open_cancel = load("open_cancel")
        self.begin_walk = load("begin_walk")
        self.publish_cancels = load("publish_cancels")
        self.end_walk = load("end_walk")
        self.settle = load("settle")
        self.confirm = load("confirm")
        self.lease = load("lease")
        self.redeliver = load("redeliver")
        self.remark = load("remark")
        self.register = load("register")
        self.start = load("start")
        self.finish = load("finish")
        self.restore = load("restore")
        self.ack = load("ack")
        self.lose = load("lose")
        self.declare_dead = load("declare_dead")
        self.report_status = load("report_status")
        self.heartbeat = load("heartbeat")
        self.leave = load("leave")
        self.touch = load("touch")
        self.forget_consumer = load("forget_consumer")
        self.collect_counts = load("collect_counts")
        self.add_counts = load("add_counts")
        self.drop_counts = load("drop_counts")
        self.add_own_counts = load("add_own_counts")

    def all(self) -> list[Script]:
        return [script for script in vars(self).values() if isinstance(script, Script)]
