"""This system's half of all three, in an installation of its own."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandError

from scans.contrast import QUEUES, Sent, Statement, SweepOutcome, find_wrong_sends
from scans.contrast.bulkhead_commits import run_commits
from scans.contrast.bulkhead_dispatcher import fill, run_sweep
from scans.contrast.bulkhead_edits import run_edits
from scans.contrast.commits import CommitOutcome
from scans.contrast.edits import EditOutcome
from tenants.binding import unbound


@dataclass(frozen=True, slots=True)
class Ours:
    sweep: SweepOutcome
    edits: list[EditOutcome]
    commits: list[CommitOutcome]


def run_here() -> Ours:
    """In this installation, which is to be empty."""
    fill(QUEUES)
    sweep = run_sweep(QUEUES)
    with unbound():  # requests bind their planes themselves
        return Ours(sweep, run_edits(), run_commits())


def run_apart(home: Path) -> Ours:
    """``run_here`` in a process and an installation of its own: this one's tenants are not touched."""
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
    return from_json(done.stdout)


def to_json(ours: Ours) -> str:
    return json.dumps(asdict(ours))


def from_json(text: str) -> Ours:
    outcome = json.loads(text)
    sent = tuple(Sent(**row) for row in outcome["sweep"]["sent"])
    return Ours(
        SweepOutcome(sent, _statements(outcome["sweep"]), find_wrong_sends(sent, QUEUES)),
        [EditOutcome(each["way"], _statements(each), tuple(each["answers"]), each["row"]) for each in outcome["edits"]],
        [CommitOutcome(**each | {"kept": tuple(each["kept"])}) for each in outcome["commits"]],
    )


def _statements(outcome: dict[str, Any]) -> tuple[Statement, ...]:
    return tuple(Statement(**row) for row in outcome["statements"])
