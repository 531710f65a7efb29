"""A first log-in by the provider, and what happens to the account at the same moment: one of them finds the other."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, connections, transaction
from django.db.models import QuerySet

from tenants.accounts.links import invite, withdraw_invitation
from tenants.accounts.models import ExternalIdentity, IdentityProvider
from tenants.accounts.oidc import OidcRefused
from tenants.accounts.oidc_members import member_for
from tenants.audit.models import AuditHead
from tenants.audit.trail import lock_head
from tenants.context import tenant_context

ISSUER = "https://issuer.example"
CLAIMS = {"sub": "subject-1", "email": "ann@acme.example", "email_verified": True}


def give_a_password(ann):
    ann.set_password("seven purple elephants")
    ann.save(update_fields=["password"])


def log_in_as_another(ann):
    ExternalIdentity.objects.create(user=ann, issuer=ISSUER, subject="subject-2")


MEANWHILE = {"given a password": give_a_password, "another subject's": log_in_as_another}
MEANWHILE |= {"uninvited": withdraw_invitation}


@pytest.mark.parametrize("meanwhile", MEANWHILE.values(), ids=MEANWHILE)
def test_an_account_that_stops_waiting_at_the_same_moment_is_not_opened(alice, monkeypatch, meanwhile):
    waits, select_for_update = threading.Event(), QuerySet.select_for_update
    with tenant_context("acme"):
        ann = invite(username="ann", email="ann@acme.example", role="tester", invited_by=alice)
        if meanwhile is not withdraw_invitation:
            get_user_model().objects.filter(pk=ann.pk).update(is_invited=False, is_active=True)
            ann.refresh_from_db()

    def noting(self, *args, **kwargs):
        if self.model is AuditHead and threading.current_thread() is not threading.main_thread():
            waits.set()
        return select_for_update(self, *args, **kwargs)

    def log_in():
        try:
            with tenant_context("acme"):
                return member_for(IdentityProvider(issuer=ISSUER, allowed_domains="acme.example"), CLAIMS)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as other:
        with tenant_context("acme"), transaction.atomic():
            lock_head()
            monkeypatch.setattr(QuerySet, "select_for_update", noting)
            opened = other.submit(log_in)
            assert connection.vendor == "sqlite" or waits.wait(60)  # on SQLite its own transaction has not begun
            meanwhile(ann)
        with pytest.raises(OidcRefused, match="no account that waits"):
            opened.result()
