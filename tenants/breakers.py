"""
Which database servers are silent: found out by whoever waits for one in vain, and then nobody else has to.

Kept by address, in each process: a server that does not answer is silent for each of its tenants, while what a server
says of one tenant (wrong password, no such database, too many connections) costs no time, and concerns nobody else.
A thread of its own asks again, after a second at first and a minute at most: no request and no job waits for that.
"""

import logging
import math
import os
import threading
import time
from collections.abc import Callable

from tenants.exceptions import DatabaseSilentError

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between two tries
UNASKED_SECONDS = 600.0  # a server that nobody has wanted for so long is not tried any more

Address = tuple[str, str]


class _Silent:
    def __init__(self) -> None:
        self.next_try = time.monotonic() + FIRST_PAUSE
        self.asked_at = time.monotonic()


_silent: dict[Address, _Silent] = {}
_lock = threading.Lock()


def is_silent(address: Address | None) -> bool:
    return address in _silent


def silent_servers() -> list[str]:
    """Those that this process waits for in vain, as ``host:port``."""
    return [":".join(address) for address in list(_silent)]


def require_answering(address: Address) -> None:
    """Raises ``DatabaseSilentError`` at once while this process knows that the server is silent."""
    silent = _silent.get(address)
    if silent is not None:
        silent.asked_at = time.monotonic()
        raise DatabaseSilentError(
            f"The database server {':'.join(address)} does not answer.",
            retry_after=max(1, math.ceil(silent.next_try - silent.asked_at)),
        )


def open_breaker(address: Address, answers: Callable[[], bool]) -> None:
    """The server is silent until ``answers()``. Again changes nothing: it is being asked already."""
    with _lock:
        if address in _silent:
            return
        _silent[address] = silent = _Silent()
    logger.error("The database server %s does not answer: its tenants are unavailable until it does", ":".join(address))
    try:
        threading.Thread(target=_ask_again, args=(address, silent, answers), daemon=True, name="breaker").start()
    except RuntimeError as error:  # there are as many threads as may be: who comes next waits in vain again, and tries
        _forget(address, silent)
        logger.error("Nobody asks the database server %s whether it answers again: %s", ":".join(address), error)


def _ask_again(address: Address, silent: _Silent, answers: Callable[[], bool]) -> None:
    pause = FIRST_PAUSE
    try:
        while True:
            time.sleep(pause)
            is_wanted = time.monotonic() - silent.asked_at < UNASKED_SECONDS
            if _silent.get(address) is not silent or not is_wanted or answers():
                break
            pause = min(2 * pause, LONGEST_PAUSE)
            silent.next_try = time.monotonic() + pause
    finally:
        _forget(address, silent)  # whatever went wrong here: who comes next finds out anew
    logger.warning("The database server %s %s", ":".join(address), "answers again" if is_wanted else "is not wanted")


def _forget(address: Address, silent: _Silent) -> None:
    with _lock:
        if _silent.get(address) is silent:
            del _silent[address]


def start_over() -> None:
    """Forgets all. In a forked child: the threads that ask are its parent's."""
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    _silent.clear()


os.register_at_fork(after_in_child=start_over)
