"""Telling the dispatcher which tenant has work."""

from uuid import UUID

from django.db import transaction

from tenants.context import current_tenant
from tenants.wakeup import connect, wait, wake

__all__ = ["KEY", "connect", "wait_for_work", "wake_after_commit", "wake_dispatcher"]
KEY = "bulkhead:tenants-with-work"


def wake_dispatcher(tenant_id: UUID) -> None:
    wake(KEY, tenant_id)


def wake_after_commit() -> None:
    """For the bound tenant, once what has been written can be seen."""
    tenant_id = current_tenant().id
    transaction.on_commit(lambda: wake_dispatcher(tenant_id))


def wait_for_work(seconds: float) -> list[UUID]:
    """The tenants that have asked, oldest first; after ``seconds`` without any, none. 0 does not wait."""
    return wait(KEY, seconds)
