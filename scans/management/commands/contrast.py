import json
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from django.conf import settings
from django.core.management.base import CommandError

from scans.contrast import QUEUES, Keep, Sent, Statement, SweepOutcome, find_wrong_sends
from scans.contrast.bulkhead_dispatcher import fill, run_sweep
from tenants.management.base import TenancyCommand


class Command(TenancyCommand):
    help = "Show the leak that this service is built against, for real, beside what its own dispatcher does."
    example = "contrast"

    def add_arguments(self, parser):
        parser.add_argument("--fill", action="store_true", help="the second half alone, in this (empty) installation")

    def handle(self, fill: bool, **options):
        if fill:
            self.stdout.write(json.dumps(asdict(_run_here())))
            return
        try:
            from scans.contrast import sqlalchemy_dispatcher  # noqa: PLC0415  an extra
        except ModuleNotFoundError as error:
            raise CommandError(str(error)) from error
        self._say(
            "One sweep of two customers' task queues: first globex's, then acme's. Both have a row 41, which stands "
            "for task 121 in globex and for task 38 in acme."
        )
        with tempfile.TemporaryDirectory() as place:
            for keep in get_args(Keep):
                directory = Path(place) / keep.replace(" ", "-")
                directory.mkdir()
                outcome = sqlalchemy_dispatcher.run_sweep(keep, directory, QUEUES)
                self._show(f"SQLAlchemy, one scoped session, kept alive: {keep}", outcome)
            ours = run_apart(Path(place) / "bulkhead")
        self._show("Bulkhead: the function that `manage.py dispatch` runs", ours)
        if ours.wrong:
            raise CommandError("This service's own dispatcher sent a task for the wrong tenant.")

    def _show(self, title: str, outcome: SweepOutcome) -> None:
        self._say("")
        self._say(title)
        for statement in outcome.statements:
            sql = re.sub(r"^SELECT .*? FROM ", "SELECT ... FROM ", " ".join(statement.sql.split()))
            self._say(f"    to {statement.database:<15} {sql}")
        wrong = {(one.tenant, one.queue_id): one for one in outcome.wrong}
        for sent in outcome.sent:
            mark = wrong.get((sent.tenant, sent.queue_id))
            verdict = f"   WRONG: {sent.tenant}'s row {sent.queue_id} says {mark.held}" if mark else ""
            self._say(f"    sent for {sent.tenant:<7} row {sent.queue_id} -> task {sent.task_id}{verdict}")
        self._say(f"    {len(outcome.wrong)} of {len(outcome.sent)} sent for the wrong customer")

    def _say(self, line: str) -> None:
        self.stdout.write(line)


def _run_here() -> SweepOutcome:
    fill(QUEUES)
    return run_sweep(QUEUES)


def run_apart(home: Path) -> SweepOutcome:
    """``_run_here`` in a process and an installation of its own: this one's tenants are not touched."""
    own = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY")
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("BULKHEAD_") and name.removesuffix("_FILE") not in own
    }
    done = subprocess.run(  # noqa: S603  our own command
        [sys.executable, str(settings.BASE_DIR / "manage.py"), "contrast", "--fill"],
        env=environment | {"BULKHEAD_HOME": str(home)},
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode:
        raise CommandError(f"This service's half did not run: {done.stderr}")
    outcome = json.loads(done.stdout)
    sent = tuple(Sent(**row) for row in outcome["sent"])
    return SweepOutcome(sent, tuple(Statement(**row) for row in outcome["statements"]), find_wrong_sends(sent, QUEUES))
