"""The file system as the demo sees it: regular files and directories. Symbolic links are never followed."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sysconfig
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from broker.errors import InvalidInput

CHUNK_BYTES = 1 << 20
COUNT_AT_MOST_S = 1.0
_PLAIN = re.compile(r"[A-Za-z0-9._/-]+")
_ID_LIMIT = 200
# Where pip installs into the folder of the standard library; they are no part of it, and can be a gigabyte.
_NOT_STANDARD = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True, slots=True)
class Root:
    """Where the crawl begins; `skip` are names that are left out directly below it."""

    path: str
    skip: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return self.path.rstrip("/").rpartition("/")[2] or self.path

    def absolute(self, relative: str) -> str:
        return f"{self.path.rstrip('/')}/{relative}" if relative else self.path


class Entry(NamedTuple):
    """A file or a directory in a directory."""

    name: str
    is_directory: bool


class Count(NamedTuple):
    """How much there is below a root; not `complete` where counting took too long."""

    directories: int
    files: int
    complete: bool


def below(relative: str, name: str) -> str:
    """The path of `name` in a directory. Text, not `pathlib`: the root is "", and names may hold anything."""
    return f"{relative}/{name}" if relative else name


def find_root(path: str | None) -> Root:
    """The root for a PATH from the command line, by default the standard library. Raises InvalidInput."""
    if path is None:
        return Root(os.path.realpath(sysconfig.get_path("stdlib")), _NOT_STANDARD)
    try:
        with os.scandir(path):
            return Root(os.path.realpath(path))
    except OSError as error:
        why = error.strerror or error
        raise InvalidInput(f"PATH {shown(path)!r}: {why}; it has to be a directory that can be read") from error
    except ValueError as error:  # a null character
        raise InvalidInput(f"PATH {shown(path)!r}: {error}") from error


def list_entries(root: Root, relative: str) -> list[Entry]:
    """Files and directories by name, the directories spread evenly, the last one last. Raises OSError."""
    entries = sorted(_scan(root, relative))
    files = [entry for entry in entries if not entry.is_directory]
    directories = [entry for entry in entries if entry.is_directory]
    places = [((at + 1) / len(files), 0, entry) for at, entry in enumerate(files)]
    places += [((at + 1) / len(directories), 1, entry) for at, entry in enumerate(directories)]
    return [entry for _, _, entry in sorted(places)]


def _scan(root: Root, relative: str) -> Iterator[Entry]:
    skip = root.skip if not relative else frozenset()
    with os.scandir(root.absolute(relative)) as found:
        for one in found:
            if one.name in skip:
                continue
            if one.is_dir(follow_symlinks=False):
                yield Entry(one.name, True)
            elif one.is_file(follow_symlinks=False):
                yield Entry(one.name, False)


def count(root: Root, at_most_s: float = COUNT_AT_MOST_S) -> Count:
    """Counts what the crawl will find, but not for longer than `at_most_s`."""
    ends_at = time.monotonic() + at_most_s
    directories = files = 0
    todo = [""]
    while todo:
        if time.monotonic() > ends_at:
            return Count(directories + len(todo), files, False)
        relative = todo.pop()
        directories += 1
        try:
            for entry in _scan(root, relative):
                if entry.is_directory:
                    todo.append(below(relative, entry.name))
                else:
                    files += 1
        except OSError:
            continue
    return Count(directories, files, True)


class FileHash:
    """The sha256 of one file, a chunk at a time: a cancel can be heard between two chunks."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._hash = hashlib.sha256()
        self._file = -1
        self.size = 0

    def step(self) -> bool:
        """Reads one chunk; True when that was the last. Raises OSError. Runs in a thread."""
        try:
            if self._file < 0:
                self._file = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                if not stat.S_ISREG(os.fstat(self._file).st_mode):
                    raise OSError("not a regular file any more")
            chunk = os.read(self._file, CHUNK_BYTES)
        except OSError:
            self.close()
            raise
        self._hash.update(chunk)
        self.size += len(chunk)
        if len(chunk) < CHUNK_BYTES:
            self.close()
            return True
        return False

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def execution_id(run_id: str, relative: str) -> str:
    """`<run>`, or `<run>:<path with : for />`; a path that is long or has other characters stands as its hash."""
    if not relative:
        return f"{run_id}:."
    plain = f"{run_id}:{relative.replace('/', ':')}"
    if _PLAIN.fullmatch(relative) and len(plain) <= _ID_LIMIT:
        return plain
    return f"{run_id}:sha256:{hashlib.sha256(os.fsencode(relative)).hexdigest()[:32]}"


def shown(path: str) -> str:
    """A path that can be printed anywhere: undecodable bytes and control characters become `?`."""
    text = path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(one if one.isprintable() and one != "\ufffd" else "?" for one in text)
