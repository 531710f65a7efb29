"""Which tests may notice that a guard is gone: those that execute it, as coverage has seen."""

from collections.abc import Iterable
from itertools import chain, zip_longest
from pathlib import Path

import coverage

from tools.guards.removals import Removal

LINES_AFTER = 6  # among them the refusal itself, which the fewest tests reach


class Candidates:
    def __init__(self, measured: Path, durations: Path):
        self.data = coverage.CoverageData(str(measured))
        self.data.read()
        lines = (line.split(" ", 1) for line in durations.read_text().splitlines())
        self.seconds = {test: float(seconds) for seconds, test in lines}

    def of(self, removal: Removal) -> list[str]:
        """The likeliest first: those that reach lines which few reach, near the removal and elsewhere in its file."""
        file = self._file(removal.path)
        if file is None:
            return []
        by_line = {line: set(tests) & set(self.seconds) for line, tests in self.data.contexts_by_lineno(file).items()}
        rarest: dict[str, int] = {}
        for tests in by_line.values():
            for test in tests:
                rarest[test] = min(rarest.get(test, len(tests)), len(tests))

        def likeliest_first(tests: Iterable[str]) -> list[str]:
            # Those on MariaDB, which takes seconds to start, after all others.
            return sorted(tests, key=lambda test: (is_slow_to_start(test), rarest[test], self.seconds[test], test))

        near = [by_line.get(line, set()) for line in range(removal.line, removal.line + LINES_AFTER)]
        groups = [likeliest_first(tests) for tests in sorted(near, key=len)]
        in_turn = chain.from_iterable(zip_longest(*groups))
        return [test for test in dict.fromkeys(in_turn) if test]

    def _file(self, path: Path) -> str | None:
        return next((file for file in self.data.measured_files() if file.endswith(f"/{path.as_posix()}")), None)


class Given(list[str]):
    """Those that somebody knows better."""

    def of(self, removal: Removal) -> list[str]:
        return self


def is_slow_to_start(test: str) -> bool:
    return "mysql" in test or "MariaDB" in test
