"""
What thousands of requests leave behind: no descriptor, no thread, no connection.

    python -m tests.interleaving.leftovers --engine mysql --requests 10000

Requests of all tenants, some streamed and some of these not read to their end, go through the WSGI handler in threads
that end; then everything is counted as it was counted before.
"""

import argparse
import gc
import io
import os
import sys
import threading
from itertools import islice
from pathlib import Path

from tests.interleaving import installation

THREADS = 4


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["sqlite", "mysql"], default="sqlite")
    parser.add_argument("--requests", type=int, default=10_000)
    options = parser.parse_args()
    with installation.new(options.engine) as (stack, rest):
        return count(stack, rest, options.requests)


def count(stack, rest, requests: int) -> int:
    from django.contrib.auth import get_user_model

    from config.wsgi import application
    from tests.interleaving.stacks import TENANTS

    for tenant in range(TENANTS):
        with stack.bind(tenant):
            stack.log_in(tenant, get_user_model().objects.get(username="owner"))
    serve(application, stack, THREADS * 25)  # what is made once, is made
    before = left(stack, rest)
    statuses = serve(application, stack, requests)
    after = left(stack, rest)
    say(f"before: {before}\nafter {len(statuses)} requests: {after}")
    if set(statuses) - {"200 OK", "201 Created", "404 Not Found"}:
        say(f"FAILED: answers {sorted(set(statuses))}")
        return 1
    return 0 if after == before else 1


def serve(application, stack, requests: int) -> list[str]:
    statuses: list[str] = []
    threads = [
        threading.Thread(target=_requests, args=(application, stack, range(number, requests, THREADS), statuses))
        for number in range(THREADS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def _requests(application, stack, numbers, statuses: list[str]) -> None:
    for number in numbers:
        tenant, kind = number % len(stack.tokens), number % 5
        environment = {
            "REQUEST_METHOD": "POST" if kind == 4 else "GET",
            "PATH_INFO": PATHS[kind],
            "QUERY_STRING": "limit=5",
            "HTTP_AUTHORIZATION": f"Bearer {stack.tokens[tenant]}",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "wsgi.input": io.BytesIO(f"canary-{tenant:02d}-{number}".encode()),
            "CONTENT_LENGTH": "20",
            "wsgi.errors": sys.stderr,
            "wsgi.url_scheme": "http",
        }
        body = application(environment, lambda status, headers: statuses.append(status))
        text = b"".join(islice(body, 2) if number % 3 else body).decode()  # some are not read to their end
        body.close()
        assert "canary-" not in text.replace(f"canary-{tenant:02d}-", ""), text


PATHS = [
    "/api/v1/targets/",
    "/api/v1/machine/stream/",
    "/api/v1/targets/00000000-0000-7000-8000-000000000001/",
    "/api/v1/targets/00000000-0000-7000-8000-00000000ffff/",
    "/api/v1/machine/write/200/",
]


def left(stack, rest) -> dict[str, int]:
    """Descriptors, and of these what is open on databases; threads; connections as the server counts them."""
    stack.let_go()
    gc.collect()
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            names.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        except OSError:  # the one by which the directory is read
            continue
    return {
        "descriptors": len(names),
        "database files": sum(".sqlite3" in Path(name).name for name in names),
        "threads": threading.active_count(),
        "connections": rest.connections(),
    }


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
