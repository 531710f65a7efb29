"""What of this installation is ambient, and how each tenant's is told from the next one's."""

import logging
from uuid import UUID

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.tokens import default_token_generator
from django.core.cache import caches
from django.core.files.storage import default_storage
from django.core.signing import Signer, get_cookie_signer
from django_rq import get_connection
from rest_framework.throttling import UserRateThrottle

from tenants.facets import Facet, register
from tenants.jobs import TenantJob
from tenants.request_ids import RequestIDFilter

SOMEBODY = UUID(int=1)


class CacheKeys(Facet):
    name = "cache keys"

    def probe(self):
        return " ".join(caches[alias].make_key("key") for alias in settings.CACHES)


class Throttles(Facet):
    name = "throttles"

    def probe(self):
        key = UserRateThrottle.cache_format % {"scope": UserRateThrottle.scope, "ident": SOMEBODY}
        return UserRateThrottle.cache.make_key(key)


class Storage(Facet):
    name = "storage"

    def probe(self):
        return default_storage.path("file")


class Signatures(Facet):
    name = "signatures"

    def probe(self):
        return Signer().sign("value")


class Cookies(Facet):
    name = "signed cookies and messages"

    def probe(self):
        return get_cookie_signer().signature("value")


class Sessions(Facet):
    name = "session hashes"

    def probe(self):
        return _somebody().get_session_auth_hash()


class PasswordResets(Facet):
    name = "password-reset tokens"

    def probe(self):
        return default_token_generator._make_token_with_timestamp(_somebody(), 0, default_token_generator.secret)


class LogRecords(Facet):
    name = "log records"

    def probe(self):
        record = logging.makeLogRecord({})
        RequestIDFilter().filter(record)
        return record.tenant


class Jobs(Facet):
    name = "jobs"

    def probe(self):
        function = min(settings.BULKHEAD_JOB_FUNCTIONS)
        job = TenantJob.create(function, id=str(SOMEBODY), origin="default", connection=get_connection("default"))
        return f"{job.meta['tenant']} {job.meta['signature']}"


def _somebody():
    """A user with the same key and password everywhere, in no database."""
    return get_user_model()(pk=SOMEBODY, password="the same")  # noqa: S106  no password: its hash, and nobody's


def register_facets() -> None:
    for kind in (CacheKeys, Throttles, Storage, Signatures, Cookies, Sessions, PasswordResets, LogRecords, Jobs):
        register(kind())
