"""The Lua files: their headers tell the truth, they keep to what runs the same everywhere, and stamps survive them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import redis
from lupa.lua51 import LuaRuntime

from broker.protocol.states import Disposition, Scope, Status, lua_words, normalise
from broker.store.backend import Backend
from broker.store.commands import Commands
from broker.store.keys import Lifetimes, RunKeys
from broker.store.operations import CancelTerms
from broker.store.scripts import LUA, Script, Scripts, load_script, parse_header
from tests.support.backends import Backend as Kind
from tests.support.backends import Capability
from tests.support.lua import globals_of
from tests.support.parts import open_parts

FOLDER = Path(str(LUA))
FILES = sorted(FOLDER.glob("*.lua"))
INCLUDES = sorted((FOLDER / "include").glob("*.lua"))
SCRIPTS = {script.name: script for script in Scripts(Lifetimes()).all()}
each_script = pytest.mark.parametrize("script", SCRIPTS.values(), ids=list(SCRIPTS))
each_file = pytest.mark.parametrize("path", [*FILES, *INCLUDES], ids=lambda path: path.stem)

FORBIDDEN = {
    "shebang": r"^#!",
    "sha1hex": r"\bsha1hex\b",
    "cmsgpack": r"\bcmsgpack\b",
    "struct": r"\bstruct\.",
    "bit": r"\bbit\.",
    "error table": r"\berror\s*\(?\s*\{",
    "tostring": r"\btostring\b",
    "number in text": r"\.\.\s*\(?now(_ms)?\b(?!_)|\bnow(_ms)?\s*\.\.",
    "literal index": r"\b(KEYS|ARGV)\[\d",
    "random or clock of its own": r"\b(math\.random|os\.)",
}
"""Trap T45 and house rules: what differs between servers, or loses the last digits of a stamp."""


ANSWERS = (
    r"\breturn\s*\{\s*'([a-z_]+)'",
    r"\breturn\s*\{[^}]*?\b(?:and|or) '([a-z_]+)'",
    r"^\s*return (?:[a-z_(][^\n]*\b(?:and|or) )?'([a-z_]+)'",
    r"local answer = \{ '([a-z_]+)'",
)
"""How a code leaves a script, or one of its functions for `EACH`."""
ANSWERED_AS_THEY_ARE = {"seen_at_us", "listed_at_us"}
"""Stamps: the answer is the value, the word only names it."""


def without_comments(text: str) -> str:
    return re.sub(r"--[^\n]*", "", text)


def without_strings(text: str) -> str:
    return re.sub(r"'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"", "''", without_comments(text))


def body(script: Script) -> str:
    """Everything that was written by hand, the includes too, without comments."""
    texts = [(FOLDER / f"{script.name}.lua").read_text()]
    texts += [(FOLDER / "include" / f"{name}.lua").read_text() for name in script.header.includes]
    return without_comments("\n".join(texts))


def own_body(script: Script) -> str:
    return without_comments((FOLDER / f"{script.name}.lua").read_text())


# --- headers -----------------------------------------------------------------------------------------------------


def test_every_file_is_a_script_and_every_script_has_a_file() -> None:
    assert sorted(SCRIPTS) == [path.stem for path in FILES]
    included = {name for script in SCRIPTS.values() for name in script.header.includes}
    assert included == {path.stem for path in INCLUDES}


@each_file
def test_a_file_begins_with_a_sentence(path: Path) -> None:
    first = path.read_text().splitlines()[0]
    assert re.match(r"-- (?!KEYS|ARGV|RETURNS|EACH|INCLUDE)[A-Z].*[.,:;]?", first), first
    comment = path.read_text().split("\n-- KEYS")[0]
    assert "." in comment


@each_script
def test_a_header_names_what_the_script_uses(script: Script) -> None:
    """Every name of the header occurs, but for keys of the run, which are the same for all."""
    header, used = script.header, without_strings(body(script))
    names = [*header.arguments, *(f"first_{name}" for name in header.repeated[:1])]
    if header.keys != RunKeys._fields:
        names += [f"{key}_key" for key in header.keys]
    unused = [name for name in names if not re.search(rf"\b{name}\b", used)]
    assert not unused
    assert header.returns


@each_script
def test_every_code_is_documented_and_every_documented_code_occurs(script: Script) -> None:
    header = script.header
    documented = {*header.returns, *header.each}
    text = body(script)
    nowhere = documented - set(re.findall(r"'([a-z_]+)'", text)) - ANSWERED_AS_THEY_ARE
    assert not nowhere
    answered = {code for pattern in ANSWERS for code in re.findall(pattern, own_body(script), re.MULTILINE)}
    assert answered <= documented, f"answered and not documented: {answered - documented}"


@each_script
def test_every_include_is_needed(script: Script) -> None:
    """Something that it defines is used by the script or by another include."""
    texts = {name: without_strings((FOLDER / "include" / f"{name}.lua").read_text()) for name in script.header.includes}
    texts[script.name] = without_strings(own_body(script))
    for name in script.header.includes:
        defined = re.findall(r"^local (?:function )?([A-Za-z_]+)", texts[name], re.MULTILINE)
        others = "\n".join(text for other, text in texts.items() if other != name)
        assert any(re.search(rf"\b{one}\b", others) for one in defined), f"{script.name} does not need {name}"


@each_script
def test_a_script_loads_no_definition_that_it_does_not_use(script: Script) -> None:
    """What it does use is there: see the test of globals below."""
    text = without_strings(script.source)
    defined = re.findall(r"^local (?:function )?([A-Za-z_]+)(?=\(| =)", text, re.MULTILINE)
    assert [name for name in defined if len(re.findall(rf"\b{name}\b", text)) == 1] == []


def test_the_loader_reads_what_a_header_says() -> None:
    header = parse_header(
        "-- A sentence\n-- that goes on.\n-- KEYS a b\n-- ARGV one: x\n-- ARGV (p q)...: y\n-- RETURNS ok: z\n"
        "-- EACH e: z\n-- INCLUDE i j\nlocal x = 1\n-- RETURNS not_a_header: w\n"
    )
    assert (header.keys, header.arguments, header.repeated) == (("a", "b"), ("one",), ("p", "q"))
    assert (header.returns, header.each, header.includes) == (("ok",), ("e",), ("i", "j"))


# --- what may not occur ------------------------------------------------------------------------------------------


def offences(text: str) -> set[str]:
    text = without_comments(text)
    return {name for name, pattern in FORBIDDEN.items() if re.search(pattern, text, re.MULTILINE)}


@each_file
def test_t45_only_what_runs_the_same_everywhere(path: Path) -> None:
    assert offences(path.read_text()) == set()


@pytest.mark.parametrize(
    ("offence", "text"),
    [
        ("shebang", "#!lua name=x"),
        ("sha1hex", "redis.sha1hex('x')"),
        ("cmsgpack", "cmsgpack.pack(x)"),
        ("struct", "struct.pack('>I', 1)"),
        ("bit", "bit.band(1, 2)"),
        ("error table", "error({ err = 'x' })"),
        ("tostring", "tostring(now)"),
        ("number in text", "'at ' .. now"),
        ("number in text", "now_ms .. ''"),
        ("literal index", "ARGV[1]"),
        ("random or clock of its own", "os.time()"),
    ],
)
def test_the_lint_sees_what_it_forbids(offence: str, text: str) -> None:
    assert offences(text) == {offence}
    assert offences(f"-- {text}") == set()
    assert offences("x = 'at ' .. now_us .. other_now") == set()


KNOWN_GLOBALS = {"redis", "cjson", "KEYS", "ARGV", "string", "table", "math", "tonumber", "ipairs", "unpack"}


@each_script
def test_t45_a_script_has_no_globals(script: Script) -> None:
    """None written, and none read that nobody declared: a name without its include is found here, not at 3 a.m."""
    used = globals_of(script.source)
    assert used.written == set()
    assert used.read <= KNOWN_GLOBALS


def test_the_lint_sees_a_global() -> None:
    text = "local a = 1\nb = 2\nlocal t = { c = 3 }\nt.d = 4\na = e\nlocal function f(g) g, h = 1, 2 end\n"
    assert globals_of(text) == ({"e"}, {"b", "h"})


# --- tables ------------------------------------------------------------------------------------------------------


def lua_tables(include: str, *names: str) -> list[dict[str, Any]]:
    lua = LuaRuntime(unpack_returned_tuples=True)
    text = (FOLDER / "include" / f"{include}.lua").read_text()
    tables = lua.execute(f"{text}\nreturn {', '.join(names)}")
    return [dict(table) for table in (tables if len(names) > 1 else [tables])]


def test_the_words_of_lua_are_those_of_python() -> None:
    aliases, terminal = lua_tables("statuses", "read_aliases()", "IS_TERMINAL")
    assert {**aliases, **{word: word for word in terminal}} == lua_words()
    assert terminal == {status.value: status.terminal for status in Status}


def test_lua_reads_a_word_as_python_does() -> None:
    lua = LuaRuntime(unpack_returned_tuples=True)
    text = (FOLDER / "include" / "statuses.lua").read_text()
    canonical = lua.execute(f"{text}\nreturn canonical")
    for word in (" Done ", "TIMED_OUT\t", "what", "", "  ", "in_progress", "run ning"):
        assert canonical(word) == normalise(word), word


def test_the_ranks_of_lua_are_those_of_python() -> None:
    (ranks,) = lua_tables("acks", "RANK")
    assert ranks == {disposition.value: disposition.rank for disposition in Disposition}


# --- calls -------------------------------------------------------------------------------------------------------


def test_a_call_that_does_not_match_the_header_is_refused() -> None:
    script = load_script("list_operation", Lifetimes())
    register = load_script("register", Lifetimes())
    run_keys = tuple(RunKeys._fields)
    assert script.command(["k"], entry="e", delay_us="1") == ("EVALSHA", script.sha, "1", "k", "e", "1")
    assert register.command(run_keys, *"abcdef", run_id="r", channels="c")[-6:] == tuple("abcdef")
    with pytest.raises(TypeError, match="keys"):
        script.command(["k", "l"], entry="e", delay_us="1")
    with pytest.raises(TypeError, match="in this order"):
        script.command(["k"], delay_us="1", entry="e")
    with pytest.raises(TypeError, match="arguments"):
        script.command(["k"], entry="e")
    with pytest.raises(TypeError, match="arguments"):
        script.command(["k"], entry="e", delay_us="1", more="x")
    with pytest.raises(TypeError, match="repeats"):
        script.command(["k"], "x", entry="e", delay_us="1")
    with pytest.raises(TypeError, match="repeats"):
        register.command(run_keys, *"abcde", run_id="r", channels="c")


@pytest.fixture
async def commands(redis_url: str) -> AsyncIterator[Commands]:
    connection = Commands(redis_url)
    yield connection
    await connection.close()


@each_script
async def test_every_script_compiles_on_the_server(script: Script, commands: Commands) -> None:
    assert await commands.command("SCRIPT", "LOAD", script.source) == script.sha


async def test_a_server_that_forgot_its_scripts_is_told_them_again(redis_url: str) -> None:
    backend = Backend.connect(redis_url, namespace="cb", lifetimes=Lifetimes(), timeout_s=5.0)
    try:
        for _ in range(2):
            with redis.Redis.from_url(redis_url) as client:
                client.script_flush()
            calls = [backend.on_run(backend.scripts.touch, f"r{n}") for n in range(3)]
            calls.append(backend.on_run(backend.scripts.lease, "r", cancel_id="c", driver="d", fence="", lease_us="1"))
            assert [(await call)[0] for call in calls] == ["touched", "touched", "touched", "gone"]
    finally:
        await backend.close()


# --- stamps ------------------------------------------------------------------------------------------------------


async def test_t45_stamps_keep_their_last_digits(redis_url: str, backend: Kind) -> None:
    """Redis time is 1000 times as many digits as Lua's number-to-text keeps: everywhere all 16 must arrive."""
    async with open_parts(redis_url) as parts:
        await parts.start("r", "x")
        listed = await parts.operations.enlist("r", "c_0")
        assert await parts.operations.due_at("r", "c_0") == int(listed) + 5_000_000
        opened = await parts.operations.open("r", "c_0", CancelTerms(Scope.RUN, deadline_us=30_000_001), listed)
        operation = opened.operation
        assert operation.deadline_us == operation.requested_at_us + 30_000_001
        walking = await parts.operations.begin_walk("r", operation)
        assert walking is not None
        assert (walking.deadline_us, walking.requested_at_us) == (operation.deadline_us, operation.requested_at_us)
        await parts.operations.publish("r", walking, ["x"])
        intent = await parts.intent("r", "x")
        record = await parts.reads.execution("r", "x")
        assert intent is not None
        assert record is not None
        stamps = [
            listed,
            str(operation.requested_at_us),
            str(intent.published_at_us),
            record.started_at_us,
            record.registered_at_us,
        ]
        (score,) = await parts.backend.commands.command("ZMSCORE", parts.backend.run("r").unsettled, "x")
        assert int(float(score)) == intent.published_at_us
        await parts.finish("r", "x")
        ack = await parts.ack_of("r", "x")
        assert ack is not None
        stamps.append(ack.settled_at_us)
        assert {len(stamp) for stamp in stamps} == {16}
        assert len({stamp[-2:] for stamp in stamps}) > 1, "the last digits are digits, not zeros"
    if Capability.CJSON_LOSES_DIGITS in backend.has:
        with redis.Redis.from_url(redis_url) as client:
            lossy: Any = client.eval("return cjson.encode({1795364578164723})", 0)
            assert b"1795364578164723" not in lossy
