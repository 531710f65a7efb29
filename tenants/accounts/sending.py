"""
Sends the mails that tenants' databases have waiting. Any number of processes may: each mail is claimed by one.

A process that dies after a claim has lost nothing: the mail is due again a minute later, with a new secret.
"""

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from smtplib import SMTPException
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import Error as DatabaseError
from django.db import transaction
from django.utils import timezone

from tenants.accounts.links import KEY, NO_TENANT, RESET_EVERY, claim, claimed, make_code, may_reset, name_of
from tenants.accounts.mail import send
from tenants.accounts.models import MailLink, User
from tenants.context import control_plane, tenant_context
from tenants.exceptions import SecretError, TenantError
from tenants.models import Tenant
from tenants.wakeup import wait

logger = logging.getLogger(__name__)
AT_ONCE = 10  # of one tenant, before the next one's turn
WAIT_SECONDS = 1  # the longest wait for a wake-up: how soon a sender hears that it should stop
KEPT = timedelta(days=7)  # after it has expired


def send_due() -> bool:
    """In the bound tenant; whether there may be more."""
    now = timezone.now()
    MailLink.objects.filter(expires_at__lt=now - KEPT).delete()
    due = MailLink.objects.filter(next_try_at__lte=now, ended_at=None, expires_at__gt=now)
    links = list(due.select_related("user", "invited_by").order_by("next_try_at", "pk")[:AT_ONCE])
    for link in links:
        if claim(link):
            _deliver(link)
    return len(links) == AT_ONCE


def _deliver(link: MailLink) -> None:
    if link.user is None and not _find_user(link):
        return
    code = make_code(link)
    if code is None:
        return
    try:
        send(link, code)
    except ValidationError:
        logger.warning("Mail %s has no address to go to", link.pk)
        claimed(link).end(MailLink.Ending.UNDELIVERABLE)
    except (SMTPException, OSError, ValueError) as error:  # its words may hold the address
        logger.warning("Mail %s was not sent, and is tried again: %s", link.pk, type(error).__name__)
    else:
        claimed(link).update(sent_at=timezone.now(), next_try_at=None)


def _find_user(link: MailLink) -> bool:
    """Who asked for a reset, if there is somebody who may have one, and has not just got one."""
    with transaction.atomic():
        try:
            user = User.objects.select_for_update().filter(username=name_of(link)).first()
        except SecretError:
            user = None
        resets = MailLink.objects.filter(user=user, purpose=MailLink.Purpose.RESET, ended_at=None)
        if (
            user is None
            or not user.email
            or not may_reset(user)
            or resets.filter(created_at__gt=timezone.now() - RESET_EVERY).exists()
        ):
            MailLink.objects.filter(pk=link.pk).delete()
            return False
        resets.end(MailLink.Ending.REPLACED)
        MailLink.objects.filter(pk=link.pk).update(user=user, sealed_name="")
        link.user = user
        return True


def run_round(tenants: list[UUID]) -> list[UUID]:
    """Those that may have more. What goes wrong in one stops no other."""
    unfinished = []
    for tenant in tenants:
        try:
            if tenant == NO_TENANT:
                forget_strangers()
                continue
            with tenant_context(tenant):
                if send_due():
                    unfinished.append(tenant)
        except TenantError as error:
            logger.warning("Tenant %s is passed over: %s", tenant, error)
        except Exception:
            logger.exception("The mails of tenant %s could not be sent", tenant)
    return unfinished


def forget_strangers() -> None:
    """What was asked for at tenants that are not there."""
    with control_plane():
        MailLink.objects.all().delete()


def everybody() -> list[UUID]:
    with control_plane():
        active = Tenant.objects.filter(state=Tenant.State.ACTIVE).order_by("id")
        return [NO_TENANT, *active.values_list("pk", flat=True)]


def sweep() -> None:
    tenants = everybody()
    while tenants:
        tenants = run_round(tenants)


def run_sender(should_stop: Callable[[], bool]) -> None:
    """Woken by Redis; and, because Redis may forget, a slow sweep over all tenants."""
    waiting: dict[UUID, None] = {}
    next_sweep = 0.0
    while not should_stop():
        if time.monotonic() >= next_sweep:
            next_sweep = time.monotonic() + settings.BULKHEAD_SWEEP_SECONDS
            try:
                waiting |= dict.fromkeys(everybody())
            except DatabaseError as error:
                logger.warning("The tenants cannot be read; the next sweep tries again: %s", error)
        waiting |= dict.fromkeys(wait(KEY, 0 if waiting else WAIT_SECONDS))
        waiting = dict.fromkeys(run_round(list(waiting)))
