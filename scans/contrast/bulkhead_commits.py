"""
Two rows saved in Django, and in a request here. ``save()`` has no switch: the four combinations differ only in the
failure between the two.
"""

from collections.abc import Callable

from django.contrib.auth import get_user_model
from django.db import transaction
from django.db.transaction import TransactionManagementError
from django.http import HttpResponse
from django.test import RequestFactory

from scans.contrast.commits import COMBINATIONS, ROWS, Combination, CommitOutcome, Interrupted
from scans.models import ScanProfile
from tenants.context import tenant_context
from tenants.middleware import PlaneMiddleware
from tenants.tokens import TenantRefreshToken

TENANT = "acme"
REFUSED = Combination("both saved, and an answer of 409", (True, True))


def save_both(combination: Combination) -> None:
    for number, name in enumerate(ROWS):
        if number and combination.is_interrupted:
            raise Interrupted
        ScanProfile(name=name, engines={"ports": {}}).save()


def autocommit(combination: Combination) -> None:
    with tenant_context(TENANT):
        save_both(combination)


def in_atomic(combination: Combination) -> None:
    with tenant_context(TENANT), transaction.atomic():
        save_both(combination)


def commit_in_atomic(combination: Combination) -> None:
    with tenant_context(TENANT), transaction.atomic():
        save_both(combination)
        if any(combination.commits):
            transaction.commit()


def in_a_request(combination: Combination) -> None:
    """A POST through the middleware that every request comes by, with the member's token, to a view of ours here."""

    def view(request):
        save_both(combination)
        return HttpResponse(status=409 if combination is REFUSED else 201)

    with tenant_context(TENANT):
        token = str(TenantRefreshToken.for_user(get_user_model().objects.get()).access_token)
    request = RequestFactory(headers={"Authorization": f"Bearer {token}"}).post("/api/v1/targets/")
    PlaneMiddleware(view)(request)


WAYS: dict[str, tuple[Callable[[Combination], None], tuple[Combination, ...]]] = {
    "Django, autocommit": (autocommit, COMBINATIONS),
    "Django, atomic()": (in_atomic, COMBINATIONS),
    "Django, commit() inside atomic()": (commit_in_atomic, COMBINATIONS),
    "Bulkhead, a POST request": (in_a_request, (*COMBINATIONS, REFUSED)),
}


def run_commits() -> list[CommitOutcome]:
    """Unbound, in an installation that ``fill()`` has filled."""
    return [_run(way, combination) for way, (_, combinations) in WAYS.items() for combination in combinations]


def _run(way: str, combination: Combination) -> CommitOutcome:
    error = ""
    try:
        WAYS[way][0](combination)
    except Interrupted:
        pass
    except TransactionManagementError as refusal:
        error = type(refusal).__name__
    with tenant_context(TENANT):
        rows = ScanProfile.objects.filter(name__in=ROWS)
        kept = tuple(name for name in ROWS if rows.filter(name=name).exists())
        rows.delete()
    return CommitOutcome(way, combination.label, kept, error)
