"""Which ports of a target answer: asked before and after an engine, because a dead target looks clean."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass

from scans.engines.base import MAX_ADDRESSES, MAX_PORTS, EngineTarget, check_int, is_literal_address, require
from scans.engines.net import NoAnswerError, dial

_SECONDS = 2.0  # long enough for one lost SYN to be sent again
_PARALLEL = 64

Endpoint = tuple[str, int]


@dataclass(frozen=True)
class HealthReport:
    """``answered`` holds the (address, port) pairs that accepted a connection, ``unanswered`` the rest."""

    answered: tuple[Endpoint, ...]
    unanswered: tuple[Endpoint, ...]

    def __post_init__(self) -> None:
        for pairs in (self.answered, self.unanswered):
            require(isinstance(pairs, tuple) and len(pairs) <= MAX_ADDRESSES * MAX_PORTS, "too many endpoints")
            for pair in pairs:
                require(isinstance(pair, tuple) and len(pair) == 2, "an endpoint is an address and a port")
                require(is_literal_address(pair[0]), f"not a literal address: {pair[0]!r:.60}")
                check_int("port", pair[1], 1, 65535)

    def is_still(self, before: "HealthReport") -> bool:
        """At least one port answered before, and each that did answers now."""
        return bool(before.answered) and set(before.answered) <= set(self.answered)


def probe_health(target: EngineTarget) -> HealthReport:
    pairs = [(address, port) for address in target.addresses for port in target.ports]
    answers: dict[Endpoint, bool] = {}
    waiting = iter(pairs)
    lock = threading.Lock()

    def work() -> None:
        while (pair := _next(waiting, lock)) is not None:
            answers[pair] = _answers(*pair)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(min(_PARALLEL, len(pairs)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return HealthReport(
        tuple(pair for pair in pairs if answers[pair]), tuple(pair for pair in pairs if not answers[pair])
    )


def _next(waiting: Iterator[Endpoint], lock: threading.Lock) -> Endpoint | None:
    with lock:
        return next(waiting, None)


def _answers(address: str, port: int) -> bool:
    try:
        dial(address, port, _SECONDS).close()
    except (ConnectionRefusedError, NoAnswerError):
        return False
    return True
