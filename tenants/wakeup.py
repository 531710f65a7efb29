"""
Telling another process which tenant has work. A hint and nothing more: a sweep over all tenants finds what a lost one
missed, so that Redis may be down, full or empty and nothing that was accepted is lost.
"""

import logging
import time
from functools import cache
from math import ceil
from uuid import UUID

import django_rq
from django.conf import settings
from django.db.models.functions import Now
from redis import Redis, RedisError

from tenants.context import control_plane
from tenants.models import Tenant

logger = logging.getLogger(__name__)
ANSWER_SECONDS = 2.0  # a Redis that hangs must not hang who asks it


def connect(seconds: float = ANSWER_SECONDS) -> Redis:
    """A client that waits ``seconds`` for an answer at most; RQ's own would wait for ever. It keeps its connections."""
    return _client(seconds, repr(settings.RQ_QUEUES["default"]))


@cache
def _client(seconds: float, where: str) -> Redis:
    """One for each ``where``, which only tells them apart."""
    client = django_rq.get_connection("default")
    client.connection_pool.connection_kwargs["socket_timeout"] = seconds
    return client


def wake(key: str, tenant_id: UUID) -> None:
    """``key`` names a sorted set: tenants' ids, oldest wish first."""
    try:
        connect().zadd(key, {tenant_id.hex: time.time()}, nx=True)
    except (RedisError, OSError) as error:
        logger.warning("Nobody was woken for %s; a sweep will find the work: %s", key, error)


def hint(tenant_id: UUID) -> None:
    """
    Tells control that the tenant has work now, for when Redis forgets. In no plane or in control: tenant work does it
    by ``after_unbind``.
    """
    with control_plane():
        # A hint that is due already is moved too: a dispatcher may be about to take it back for having found nothing.
        Tenant.objects.filter(pk=tenant_id).update(look_at=Now())


def wait(key: str, seconds: float) -> list[UUID]:
    """The tenants that have asked, oldest first; after ``seconds`` without any, none. 0 does not wait."""
    try:
        redis = connect(ceil(seconds) + ANSWER_SECONDS)
        first = redis.bzpopmin(key, timeout=seconds) if seconds else None
        if seconds and first is None:
            return []
        members = [*(first[1:2] if first else []), *(entry[0] for entry in redis.zpopmin(key, 1000))]
    except (RedisError, OSError) as error:
        logger.warning("Redis does not answer; sweeping instead: %s", error)
        time.sleep(min(seconds, 1.0))
        return []
    return [UUID(member.decode()) for member in members if _is_id(member)]


def _is_id(member: bytes) -> bool:
    return len(member) == 32 and all(character in b"0123456789abcdef" for character in member)
