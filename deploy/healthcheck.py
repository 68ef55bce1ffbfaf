"""Leaves with 0 where the server in this container is ready, else with 1 and one line. Standard library only."""

from __future__ import annotations

import os
import sys
import urllib.error
import urllib.request

URL = f"http://127.0.0.1:{os.environ.get('BROKER_PORT') or 8470}/readyz"
PATIENCE_S = 4.0  # less than HEALTHCHECK's timeout, so that a hang has a reason in `docker inspect`

# Without a proxy: HTTP_PROXY in the environment is not for a question to ourselves.
ASK = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def problem() -> str | None:
    """What keeps it from being ready; None where nothing does."""
    try:
        with ASK.open(URL, timeout=PATIENCE_S):
            return None
    except urllib.error.HTTPError as error:  # 503 says in its body which check failed
        with error:
            return f"{error.code} {error.read(2000).decode(errors='replace')}"
    except OSError as error:
        return str(error)


if __name__ == "__main__":
    found = problem()
    sys.exit(f"not ready: {URL}: {found}" if found else 0)
