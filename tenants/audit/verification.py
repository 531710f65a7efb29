"""Whether an audit is still what was recorded; its export; and what is no longer to be kept."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection, transaction
from django.db.models import Subquery

from tenants.audit.models import AuditEvent, AuditHead, hash_after
from tenants.audit.trail import record, set_kept_after
from tenants.audit.triggers import TABLE, create_triggers, drop_triggers, missing_triggers

CHUNK = 2000  # events in memory
FAULTS_NAMED = 20


class Head(NamedTuple):
    """Up to which event, and its hash: enough to tell later that everything up to there is as it was."""

    number: int
    hash: str


class Verdict(NamedTuple):
    head: Head
    events: int
    faults: list[str]


def verify(anchor: Head | None = None) -> Verdict:
    """
    The bound plane's chain, from the first event that is kept to the newest. ``anchor`` is the head that an earlier
    run found, kept where whoever writes this database cannot write: without it, somebody who rewrites every hash from
    some event to the newest is not found. Events that are recorded meanwhile are left to the next run.

    Bind a tenant with its migration account: the runtime account does not see the triggers.
    """
    faults = [f"trigger {name} is missing or changed: events could be altered" for name in missing_triggers()]
    found = AuditHead.objects.filter(pk=1).first()
    if found is None:
        return Verdict(Head(0, ""), 0, [*faults, "the row that names the newest event is missing"])
    head, start = Head(found.number, found.hash), Head(found.kept_after, found.kept_after_hash)
    chain = Chain(start, anchor)
    for event in export(up_to=head.number):
        chain.add(event)
    faults += chain.end(head)
    beyond = AuditEvent.objects.filter(number__gt=Subquery(AuditHead.objects.values("number")[:1]))
    faults += [f"event {number} was never recorded" for number in beyond.values_list("number", flat=True)[:1]]
    return Verdict(head, chain.events, faults[:FAULTS_NAMED])


class Chain:
    """Of events as ``export()`` gives them. After a fault it goes on from what it found: one edit is one fault."""

    def __init__(self, start: Head, anchor: Head | None = None):
        self.last, self.events = start, 0
        self._anchor, self._faults = anchor, list[str]()
        if anchor and anchor.number < start.number:
            self._faults.append(f"events up to {start.number} were removed, and verified only to {anchor.number}")
        self._meet_anchor()

    def add(self, event: dict[str, Any]) -> None:
        facts = {name: value for name, value in event.items() if name != "hash"}
        number, expected = facts["number"], self.last.number + 1
        if number != expected:
            self._faults.append(f"the events {expected} to {number - 1} are missing")
        elif event["hash"] != hash_after(self.last.hash, facts):
            self._faults.append(f"event {number} is not what was recorded after event {expected - 1}")
        self.last, self.events = Head(number, event["hash"]), self.events + 1
        self._meet_anchor()

    def end(self, head: Head | None = None) -> list[str]:
        if head and self.last != head:
            self._faults.append(f"event {head.number} should be the newest with another hash, or is missing")
        if self._anchor and self.last.number < self._anchor.number:
            self._faults.append(f"the events up to {self._anchor.number} were verified, and end at {self.last.number}")
        return self._faults

    def _meet_anchor(self) -> None:
        if self._anchor and self.last.number == self._anchor.number and self.last != self._anchor:
            self._faults.append(f"event {self.last.number} was verified with another hash: history was rewritten")


def verify_export(events: Iterable[dict[str, Any]]) -> Verdict:
    """Of a file, which begins anywhere: its first event is believed."""
    chain: Chain | None = None
    for event in events:
        if chain is None:
            chain = Chain(Head(event["number"], event["hash"]))
            chain.events = 1
        else:
            chain.add(event)
    if chain is None:
        return Verdict(Head(0, ""), 0, [])
    return Verdict(chain.last, chain.events, chain.end()[:FAULTS_NAMED])


def export(after: int = 0, up_to: int | None = None) -> Iterator[dict[str, Any]]:
    """The bound plane's events in their order, each with all that its hash vouches for, and the hash."""
    events = AuditEvent.objects.filter(number__gt=after).order_by("number")
    if up_to is not None:
        events = events.filter(number__lte=up_to)
    for event in events.iterator(CHUNK):
        yield event.facts() | {"hash": event.hash}


def prune(before: datetime) -> int:
    """
    Forgets the events before that moment, up to the first that is not; the number of the last one forgotten, or 0. The
    chain goes on, and says so in an event of its own. Bind a tenant with its migration account.
    """
    kept = AuditEvent.objects.filter(at__gte=before).order_by("number").first()
    old = AuditEvent.objects.filter(number__lt=kept.number) if kept else AuditEvent.objects.all()
    last = old.order_by("-number").first()
    if last is None:
        return 0
    drop_triggers()
    try:
        with transaction.atomic():
            set_kept_after(last.number, last.hash)
            with connection.cursor() as cursor:
                cursor.execute(f"DELETE FROM {TABLE} WHERE number <= %s", [last.number])  # noqa: S608  a constant
            record("pruned", up_to=last.number, hash=last.hash)
    finally:
        create_triggers()
    return last.number
