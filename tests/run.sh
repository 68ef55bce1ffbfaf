#!/bin/sh
# All tests: sh tests/run.sh [pytest arguments]     e.g.  sh tests/run.sh -n 0 -x -k cancel tests/unit
#
# Needs Python 3.11 or newer and nothing else: it makes .venv in the checkout (used again while pyproject.toml is the
# same), gets redis-server from the system's package manager where it may, and runs pytest under coverage. Node it does not
# get: that takes npm's registry too. Without both, tests/support/node.py skips the Node worker and says so.
#   BROKER_TEST_NODE       `required`: a Node worker that cannot be tested is a failure, not a skip
#   PYTHON                 the interpreter to use (default: the first that is new enough)
#   BROKER_TEST_PROCESSES  how many tests run at a time (default 4: most wait for processes and sockets)
# Leaves with pytest's code; with 3 where all was green and the half that needs redis-server could not run.
set -eu
CDPATH='' cd -- "$(dirname -- "$0")/.."
venv=$PWD/.venv
redis_major=7

say() { printf 'tests/run.sh: %s\n' "$*" >&2; }

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# A name on PATH proves nothing (version managers leave stubs that only print an error), so each is tried.
find_python() {
    for candidate in ${PYTHON:+"$PYTHON"} python3 python3.14 python3.13 python3.12 python3.11 python; do
        if is_new_enough "$candidate"; then
            printf '%s\n' "$candidate"
            return 0
        fi
        if [ "$candidate" = "${PYTHON:-}" ]; then
            say "PYTHON=$PYTHON is not a Python 3.11 or newer"
            return 1
        fi
    done
    say "no Python 3.11 or newer on PATH. Install one, or name it: PYTHON=/path/to/python3 sh tests/run.sh"
    return 1
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1 && sudo -n true >/dev/null 2>&1; then
        sudo -n "$@"
    else
        say "not allowed to install packages (neither root nor sudo without a password)"
        return 1
    fi
}

# install_package DEBIAN RPM ALPINE BREW: one of these, with whichever package manager is here.
install_package() {
    if command -v apt-get >/dev/null 2>&1; then
        say "installing $1 with apt-get"
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 update </dev/null >&2 || true
        as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 \
            install -y --no-install-recommends "$1" </dev/null >&2
    elif command -v dnf >/dev/null 2>&1; then
        say "installing $2 with dnf"
        as_root dnf -q -y install "$2" </dev/null >&2
    elif command -v apk >/dev/null 2>&1; then
        say "installing $3 with apk"
        as_root apk add -q "$3" </dev/null >&2
    elif command -v brew >/dev/null 2>&1; then
        say "installing $4 with brew"
        brew install -q "$4" </dev/null >&2
    else
        say "no package manager known here (apt-get, dnf, apk, brew)"
        return 1
    fi
}

# Some distributions ship Python without the part of the standard library that makes a venv.
make_venv() {
    "$python" -m venv --clear "$venv" >/dev/null 2>&1 && return 0
    install_package "python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')-venv" python3 python3 python3 ||
        install_package python3-venv python3 python3 python3 || true
    "$python" -m venv --clear "$venv" && return 0
    say "$python cannot make a venv (see above); on Debian and Ubuntu: apt-get install python3-venv"
    return 1
}

# What the venv was made from. A moved checkout changes it too: the paths inside a venv are absolute.
venv_recipe() {
    printf '%s\n%s\n' "$PWD" "$("$python" -c 'import sys; print(sys.version, sys.base_prefix)')"
    cksum <pyproject.toml
}

prepare_venv() {
    recipe=$(venv_recipe)
    if is_new_enough "$venv/bin/python" && [ "$(cat "$venv/recipe" 2>/dev/null)" = "$recipe" ]; then
        return 0
    fi
    say "making .venv with $("$python" --version 2>&1)"
    make_venv
    "$venv/bin/python" -m pip install --quiet --no-input --disable-pip-version-check --editable '.[all,dev]' </dev/null
    printf '%s\n' "$recipe" >"$venv/recipe"
}

has_redis_server() {
    for program in redis-server valkey-server; do
        version=$("$program" --version 2>/dev/null | sed -n 's/.*v=\([0-9][0-9]*\)\..*/\1/p') || version=''
        if [ -n "$version" ] && [ "$version" -ge "$redis_major" ]; then
            return 0
        fi
    done
    return 1
}

prepare_redis() {
    has_redis_server && return 0
    install_package redis-server redis redis redis || install_package valkey-server valkey valkey valkey || true
    has_redis_server && return 0
    say "no redis-server $redis_major or newer here, so only the fakeredis half of the tests runs, and this run counts as failed."
    say "Install it (Debian, Ubuntu: apt-get install redis-server; Fedora: dnf install valkey; Alpine: apk add redis;"
    say "macOS: brew install redis) and run again."
    return 1
}

unset PYTHONDONTWRITEBYTECODE # hundreds of processes would each compile what they load

python=$(find_python) || exit 2
prepare_venv
redis_missing=0
prepare_redis || redis_missing=1

"$venv/bin/python" -m coverage erase
code=0
"$venv/bin/python" -m coverage run -m pytest -n "${BROKER_TEST_PROCESSES:-4}" "$@" </dev/null || code=$?
"$venv/bin/python" -m coverage combine --quiet || true
if [ "$code" -eq 0 ] && [ "$redis_missing" -eq 1 ]; then
    say "green, but NOT TESTED AGAINST REAL REDIS: see above"
    code=3
fi
exit "$code"
