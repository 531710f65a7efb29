"""What each tenant's database must hold: the seeded rows, and every change that the machine has made since."""

from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.utils import timezone

from scans.models import Authorization, Finding, Occurrence, Scan, ScanProfile, ScanRun, Target, TaskQueue
from tests.interleaving.canaries import Misdirected, canary, canary_uuid, shared_key

TARGETS, TASKS, GROUPS, SCANS = 5, (41, 42, 43), (1, 2), (1, 2, 3)
CONTENT_TYPE = 1000
SPARE_KEYS = range(100, 112)  # for rows that come and go; the same in all tenants


@dataclass
class Ledger:
    tenant: int
    targets: dict[UUID, str] = field(default_factory=dict)
    groups: dict[int, str] = field(default_factory=dict)
    members: set[int] = field(default_factory=set)  # groups that the owner is in
    authorizations: dict[UUID, tuple[UUID, str]] = field(default_factory=dict)
    tasks: dict[int, tuple[UUID, int]] = field(default_factory=dict)
    scans: dict[int, str] = field(default_factory=dict)
    is_strict: bool = True  # not for a stack whose errors are not judged: what it failed to write is no leak

    @classmethod
    def seeded(cls, tenant: int, is_strict: bool = True) -> "Ledger":
        mark = canary(tenant, 0)
        return cls(
            tenant,
            targets={shared_key(number): mark for number in range(1, TARGETS + 1)},
            groups={number: canary(tenant, f"group-{number}") for number in GROUPS},
            members={1},
            authorizations={shared_key(number): (shared_key(1), mark) for number in (21, 22)},
            tasks={number: (canary_uuid(tenant, number), 0) for number in TASKS},
            scans=dict.fromkeys(SCANS, mark),
            is_strict=is_strict,
        )

    def require(self, table: str, found: object, what: str) -> None:
        expected = getattr(self, table)
        if found != expected and self.is_strict:
            raise Misdirected(f"{what}: {table} of tenant {self.tenant} are {found!r}, and should be {expected!r}")


def make_user(tenant: int):
    User = get_user_model()
    return User.objects.create(
        pk=shared_key(99), username="owner", email=f"{canary(tenant, 0)}@deck.example", role=User.Role.OWNER
    )


def seed(tenant: int):
    """In the tenant's binding. Everything but the canaries is alike in all tenants, keys included. Gives the user."""
    mark, now, user = canary(tenant, 0), timezone.now(), make_user(tenant)
    targets = Target.objects.bulk_create(
        Target(pk=shared_key(number), name=mark, host="deck.example", ports=[443], created_by=user)
        for number in range(1, TARGETS + 1)
    )
    Authorization.objects.bulk_create(
        Authorization(
            pk=shared_key(number),
            target=targets[0],
            statement=mark,
            expires_at=now + timedelta(days=7),
            created_by=user,
        )
        for number in (21, 22)
    )
    profile = ScanProfile.objects.create(pk=shared_key(31), name=mark, engines={"ports": {}})
    scans = Scan.objects.bulk_create(
        Scan(
            pk=shared_key(40 + number), number=number, target=targets[1], profile=profile, message=mark, created_by=user
        )
        for number in SCANS
    )
    TaskQueue.objects.bulk_create(
        TaskQueue(pk=number, task_id=number, message_id=canary_uuid(tenant, number), available_at=now)
        for number in TASKS
    )
    run = ScanRun.objects.create(pk=shared_key(51), scan=scans[0], engine="ports", fence=1, version=mark)
    for number in (61, 62):
        finding = Finding.objects.create(
            pk=shared_key(number),
            target=targets[1],
            fingerprint=f"{number:064}",
            rule_key="net.open",
            title=mark,
            severity="low",
            host="deck.example",
            port=443,
            last_seen_at=now,
        )
        Occurrence.objects.create(pk=shared_key(number + 10), finding=finding, run=run, evidence=mark)
    for number in GROUPS:
        Group.objects.create(pk=number, name=canary(tenant, f"group-{number}"))
    user.groups.add(1)
    ContentType.objects.create(pk=CONTENT_TYPE, app_label="deck", model=mark)
    return user
