import re
import tempfile
from pathlib import Path
from typing import get_args

from django.core.management.base import CommandError

from scans.contrast import QUEUES, Keep, Statement, SweepOutcome
from scans.contrast.commits import COMBINATIONS, ROWS, CommitOutcome
from scans.contrast.edits import BEFORE, CHANGES, EditOutcome
from scans.contrast.ours import Ours, run_apart, run_here, to_json
from tenants.management.base import TenancyCommand

SWEEP = (
    "One sweep of two customers' task queues: first globex's, then acme's. Both have a row 41, which stands for task "
    "121 in globex and for task 38 in acme."
)
EDITS = (
    f"Two requests read one row, {BEFORE}, and change a field each: the first {CHANGES[0]}, the second {CHANGES[1]}."
)
COMMITS = (
    f"Two rows, {' and '.join(ROWS)}, are saved one after the other. Half is one without the other. Django's save() "
    "has no switch for it: the same four, without one."
)


class Command(TenancyCommand):
    help = "Show the faults that this service is built against, for real, beside what it does itself."
    example = "contrast"

    def add_arguments(self, parser):
        parser.add_argument("--fill", action="store_true", help="this service's half alone, in this (empty) one")

    def handle(self, fill: bool, **options):
        if fill:
            self._say(to_json(run_here()))
            return
        try:
            from scans.contrast import (  # noqa: PLC0415  an extra
                sqlalchemy_commits,
                sqlalchemy_dispatcher,
                sqlalchemy_edits,
            )
        except ModuleNotFoundError as error:
            raise CommandError(str(error)) from error
        with tempfile.TemporaryDirectory() as place:
            ours = run_apart(Path(place) / "bulkhead")
            self._say(SWEEP)
            for keep in get_args(Keep):
                outcome = sqlalchemy_dispatcher.run_sweep(keep, _directory(place), QUEUES)
                self._show_sweep(f"SQLAlchemy, one scoped session, kept alive: {keep}", outcome)
            self._show_sweep("Bulkhead: the function that `manage.py dispatch` runs", ours.sweep)
            self._say(f"\n\n{EDITS}")
            edits = [sqlalchemy_edits.run_edits(way, _directory(place)) for way in sqlalchemy_edits.WAYS]
            for edit in [*edits, *ours.edits]:
                self._show_edit(edit)
            self._say(f"\n\n{COMMITS}")
            commits = [sqlalchemy_commits.run_commits(each, _directory(place)) for each in COMBINATIONS]
            self._show_commits([*commits, *ours.commits])
        self._judge(ours)

    def _judge(self, ours: Ours) -> None:
        own = [outcome for outcome in ours.edits if outcome.way.startswith("Bulkhead")]
        if ours.sweep.wrong:
            raise CommandError("This service's own dispatcher sent a task for the wrong tenant.")
        if any(outcome.lost for outcome in own):
            raise CommandError("This service lost an update.")
        if any(outcome.is_half for outcome in ours.commits if outcome.way.startswith("Bulkhead")):
            raise CommandError("This service left half of a request.")

    def _show_sweep(self, title: str, outcome: SweepOutcome) -> None:
        self._say(f"\n{title}")
        for statement in outcome.statements:
            self._show_statement(statement, r"^SELECT .*? FROM ", "SELECT ... FROM ")
        wrong = {(one.tenant, one.queue_id): one for one in outcome.wrong}
        for sent in outcome.sent:
            mark = wrong.get((sent.tenant, sent.queue_id))
            verdict = f"   WRONG: {sent.tenant}'s row {sent.queue_id} says {mark.held}" if mark else ""
            self._say(f"    sent for {sent.tenant:<7} row {sent.queue_id} -> task {sent.task_id}{verdict}")
        self._say(f"    {len(outcome.wrong)} of {len(outcome.sent)} sent for the wrong customer")

    def _show_edit(self, outcome: EditOutcome) -> None:
        self._say(f"\n{outcome.way}")
        for statement in outcome.statements:
            self._show_statement(statement, r"'[0-9a-f]{32}'", "...")
        for number, (change, answer) in enumerate(zip(CHANGES, outcome.answers, strict=True), start=1):
            lost = f"   LOST: {', '.join(outcome.lost)}" if set(outcome.lost) & change.keys() else ""
            self._say(f"    request {number}: {answer}{lost}")
        self._say(f"    {len(outcome.lost)} of {len(CHANGES)} changes lost; the row holds {dict(outcome.row)}")

    def _show_commits(self, outcomes: list[CommitOutcome]) -> None:
        for way in dict.fromkeys(outcome.way for outcome in outcomes):
            own = [outcome for outcome in outcomes if outcome.way == way]
            self._say(f"\n{way}")
            for outcome in own:
                kept = " and ".join(outcome.kept) or "neither"
                said = f"   {outcome.error}" if outcome.error else ""
                self._say(f"    {outcome.combination:<35} {kept}{'   HALF' if outcome.is_half else ''}{said}")
            self._say(f"    {sum(outcome.is_half for outcome in own)} of {len(own)} left half")

    def _show_statement(self, statement: Statement, long: str, short: str) -> None:
        sql = re.sub(long, short, " ".join(statement.sql.split()))
        self._say(f"    to {statement.database:<15} {sql}")

    def _say(self, line: str) -> None:
        self.stdout.write(line)


def _directory(place: str) -> Path:
    """One of its own for each."""
    return Path(tempfile.mkdtemp(dir=place))
