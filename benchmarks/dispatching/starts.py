"""When a job had begun, in its process: a line for each, as jobs keep no results."""

import os
import time
from pathlib import Path


def note(message: str, what: str = "started") -> None:
    with open(os.environ["BENCHMARK_STARTS"], "a") as file:
        file.write(f"{message} {what} {time.time()}\n")


class Starts:
    """What has been noted, in the order of the notes: ``of("started")`` is by message, in seconds since the epoch."""

    def __init__(self, path: Path):
        self._file = path.open("w+")
        self._noted: dict[str, dict[str, float]] = {}

    def of(self, what: str) -> dict[str, float]:
        for line in self._file:
            message, each, at = line.split()
            self._noted.setdefault(each, {})[message] = float(at)
        return self._noted.get(what, {})

    def wait_for(self, what: str, messages: list[str], seconds: float) -> dict[str, float]:
        deadline = time.monotonic() + seconds
        while not (noted := self.of(what)).keys() >= set(messages):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(set(messages) - noted.keys())} of {len(messages)} have not {what}")
            time.sleep(0.02)
        return {message: noted[message] for message in messages}
