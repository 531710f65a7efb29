"""Which tests may notice that a guard is gone: those that execute it, as coverage has seen."""

from pathlib import Path

import coverage

from tools.guards.removals import Removal

LINES_AFTER = 6  # among them the refusal itself, which the fewest tests reach


class Candidates:
    def __init__(self, measured: Path, durations: Path):
        self.data = coverage.CoverageData(str(measured))
        self.data.read()
        self.files = {Path(file).as_posix().partition("/tenants/")[2]: file for file in self.data.measured_files()}
        lines = (line.split(" ", 1) for line in durations.read_text().splitlines())
        self.seconds = {test: float(seconds) for seconds, test in lines}

    def of(self, removal: Removal) -> list[str]:
        """The likeliest first."""
        file = self.files.get(removal.path.relative_to("tenants").as_posix())
        if file is None:
            return []
        by_line = self.data.contexts_by_lineno(file)
        groups = [
            self._quickest_first(by_line.get(line, [])) for line in range(removal.line, removal.line + LINES_AFTER)
        ]
        tests = [test for group in sorted(groups, key=len) for test in group]
        return list(dict.fromkeys(tests))

    def _quickest_first(self, tests) -> list[str]:
        """Those on MariaDB, which takes seconds to start, after all others."""
        known = set(tests) & set(self.seconds)
        return sorted(known, key=lambda test: ("mysql" in test or "MariaDB" in test, self.seconds[test], test))
