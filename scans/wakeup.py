"""Telling the dispatcher which tenant has work."""

from uuid import UUID

from django.db import transaction

from tenants.context import after_unbind, current_tenant
from tenants.wakeup import connect, hint, wait, wake

__all__ = ["KEY", "announce_after_commit", "connect", "wait_for_work", "wake_after_commit", "wake_dispatcher"]
KEY = "bulkhead:tenants-with-work"


def wake_dispatcher(tenant_id: UUID) -> None:
    wake(KEY, tenant_id)


def wake_after_commit() -> None:
    """For the bound tenant, once what has been written can be seen."""
    tenant_id = current_tenant().id
    transaction.on_commit(lambda: wake_dispatcher(tenant_id))


def announce_after_commit() -> None:
    """As ``wake_after_commit``, and noted in control too: for what members have asked for."""
    tenant_id = current_tenant().id
    wake_after_commit()
    transaction.on_commit(lambda: after_unbind(lambda: hint(tenant_id)))


def wait_for_work(seconds: float) -> list[UUID]:
    """The tenants that have asked, oldest first; after ``seconds`` without any, none. 0 does not wait."""
    return wait(KEY, seconds)
