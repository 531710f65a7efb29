"""
A process of the product that serves everybody, with hostile code in it: one forked child for each order.

Orders come on standard input, one JSON object a line, and are answered likewise. What the code writes to standard
output and error goes to the file that the first argument names.
"""

import gc
import json
import os
import signal
import sys
import threading
import warnings

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth.models import Group  # noqa: E402
from django.core.management import get_commands  # noqa: E402
from django.db import connections  # noqa: E402
from django.db.utils import load_backend  # noqa: E402
from rest_framework.test import APIClient  # noqa: E402

from tenants.planes import _bound, current  # noqa: E402
from tests.hostile.doors import THROUGH, Outcome, aims_of  # noqa: E402
from tests.hostile.mechanisms import MECHANISMS  # noqa: E402

SECONDS = 30
asked_to_end: list[bool] = []  # as a web server's worker, it first finishes what it is at


def names() -> list[str]:
    return sorted(Group.objects.values_list("name", flat=True))


def serve_elsewhere(aim, is_open, may_end) -> None:
    """A thread in the middle of another's work: its rows and its connection are in memory."""
    with aim.bind():
        rows_of_the_other = names()
        is_open.set()
        may_end.wait(SECONDS)
        assert rows_of_the_other


def carry_out(order: dict) -> dict:
    mechanism = MECHANISMS[order["mechanism"]]
    Outcome.aims = aims_of(order["world"])
    Outcome.is_control = order["aim"] == "acme"
    for aim in Outcome.aims.values():
        with aim.bind():
            names()
            if mechanism.keep is not None:
                aim.kept = mechanism.keep(aim)
    aim = Outcome.aims[order["aim"]]
    if mechanism.has_neighbour:
        is_open, may_end = threading.Event(), threading.Event()
        threading.Thread(target=serve_elsewhere, args=(aim, is_open, may_end), daemon=True).start()
        is_open.wait(SECONDS)
    said = through(order["door"], json.dumps(order))
    left_bound = str(current() or "nothing")
    _bound.set(None)
    if mechanism.later:
        aim.kept = None
        with aim.bind():
            names()
            gc.collect()
            signal.raise_signal(signal.SIGUSR1)
            connections["default"].close()
            names()
    noted = Outcome.noted[0] if Outcome.noted else {}
    return noted | {"said": said, "loot": repr(aim.loot), "left_bound": left_bound, "retired": bool(asked_to_end)}


def through(door: str, order: str) -> str:
    try:
        return THROUGH[door](order)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def load_everything() -> None:
    """What is imported at first use, once, and not in every child; no database is asked."""
    get_commands()
    load_backend(settings.DATABASES["control"]["ENGINE"])
    str(Group.objects.all().query)
    APIClient(SERVER_NAME="localhost").get("/healthz")
    APIClient(SERVER_NAME="localhost").get("/api/v1/me/")


def main() -> None:
    warnings.simplefilter("ignore")
    load_everything()
    answers = os.fdopen(os.dup(1), "w")
    log = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            signal.alarm(SECONDS)
            signal.signal(signal.SIGTERM, lambda *args: asked_to_end.append(True))
            answers.write(json.dumps(carry_out(json.loads(line))) + "\n")
            answers.flush()
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            answers.write(json.dumps({"crashed": status}) + "\n")
            answers.flush()


main()
