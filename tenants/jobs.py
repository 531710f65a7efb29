"""
RQ jobs that carry their tenant unasked, and run nothing that was not signed for it.

Whoever can write to Redis could otherwise run code: function and callback names are dotted paths. So a job is signed
with its tenant's key; functions come from an allow-list; callbacks, webhooks, dependencies, retries, rate limits and
schedules are not used at all, here nor by what is read back from Redis; and data is JSON, whatever a queue or worker
was configured with. A replayed job is genuine: what stops it is the claim on its row in the tenant's database.
"""

import base64
import hashlib
import hmac
import json
import logging
import sys
import zlib
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.utils.module_loading import import_string
from django_rq.queues import DjangoRQ
from redis import ResponseError
from rq.exceptions import NoSuchJobError, StopRequested
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from tenants.audit.provenance import acting
from tenants.connections import close_tenant_connections
from tenants.context import ACTIVE, current_record, require_state, tenant_context
from tenants.exceptions import (
    ForgedJobError,
    TenantError,
    TenantNotFoundError,
    WrongTenantError,
)
from tenants.registry import TenantRecord, registry
from tenants.sentinel import unchanged, unit_of_work
from tenants.tracebacks import places

logger = logging.getLogger(__name__)

FAILURES_ARE_KEPT_SECONDS = 7 * 24 * 3600
LONGEST_TIMEOUT_SECONDS = 24 * 3600
MAX_BYTES = 64 * 1024  # of any one field
REFUSED_OPTIONS = ["on_success", "on_failure", "on_stopped", "webhooks", "depends_on"]
REFUSED_OPTIONS += ["retry", "repeat", "rate_limit", "group_id"]
# RQ acts on these, in its maintenance too, long before and after a job is run: none of ours has them.
REFUSED_FIELDS = (
    b"success_callback_name failure_callback_name stopped_callback_name webhooks dependency_id dependency_ids "
    b"retries_left retry_intervals repeats_left repeat_intervals rate_limit_key rate_limit_concurrency group_id"
).split()
# What is read back at all.
FIELDS = b"origin timeout meta status worker_name created_at enqueued_at started_at ended_at last_heartbeat".split()


class TenantJob(Job):
    refusal = ""  # why what stands in Redis is not run; decided before RQ acts on any of it

    def __init__(self, id=None, connection=None, serializer=None):
        super().__init__(id, connection=connection, serializer=JSONSerializer)  # never pickle, whoever asks for it

    @classmethod
    def create(cls, func, *args, **options):
        """Raises ``NoTenantError`` unbound, ``WrongTenantError`` for another tenant, ``ForgedJobError`` otherwise."""
        record = current_record()
        meta = options.pop("meta", None) or {}
        if meta.get("tenant", record.snapshot.id.hex) != record.snapshot.id.hex:
            raise WrongTenantError(f"A job for another tenant was made inside {record.snapshot.slug!r}.")
        _require_no_options(options)
        job = super().create(func, *args, **options)
        if refusal := _refuse_data(job.data):
            raise ForgedJobError(refusal)
        job.description = job.func_name  # arguments have no place in lists and logs
        job.meta = meta | {"tenant": record.snapshot.id.hex, "key": record.signing_number}
        job.meta["signature"] = job._sign(record)
        return job

    def refresh(self):
        try:
            super().refresh()
        except ResponseError as error:  # a key of that name, and no hash
            raise NoSuchJobError(f"{self.key}: {error}") from error

    def restore(self, raw_data):
        """Never raises but ``NoSuchJobError``: a worker that cannot read a job ends, and with it everybody's."""
        if b"data" not in raw_data:
            raise NoSuchJobError(f"{self.key} has no data")
        self.refusal = _refuse_fields(raw_data)
        data = b"" if self.refusal else _decompress(raw_data[b"data"])
        try:
            read_back = {} if self.refusal else {name: raw_data[name] for name in FIELDS if name in raw_data}
            super().restore(read_back | {b"data": b""})
            self.refusal = self.refusal or _refuse_timeout(self.timeout) or _refuse_data(data)
        except StopRequested:  # a signal, which RQ's worker raises wherever it happens to be
            raise
        except Exception as error:  # RQ reads what it wrote itself: there is no end to what others may write
            self.refusal = f"it has a field that cannot be read ({type(error).__name__})"
        if self.refusal:
            super().restore({b"data": b"", b"origin": raw_data.get(b"origin", b"")[:100].decode("ascii", "replace")})
            self._status = JobStatus.STARTED  # whose worker is gone: RQ's maintenance fails nothing else
            data = b'["refused", null, [], {}]'
        self.data = data
        self.description = self.func_name
        self.result_ttl, self.failure_ttl = 0, FAILURES_ARE_KEPT_SECONDS

    def perform(self) -> None:
        """Returns nothing, whatever the function does: results have no place in Redis."""
        try:
            with acting(f"job {self.id}"), unit_of_work(f"job {self.id}", in_command=True):
                self._perform()
        finally:
            close_tenant_connections()

    def _perform(self) -> None:
        record = self._verify()
        try:
            require_state(record, ACTIVE)
        except TenantError as error:
            logger.warning("Job %s is not run: %s", self.id, error)
            return
        with tenant_context(record.snapshot.id), unchanged(f"job {self.id}"):
            super().perform()

    def _handle_failure(self, exc_string, *args, **kwargs):
        """RQ would keep the traceback, with whatever the exception says; its own words, without one, say nothing."""
        error = sys.exception()
        super()._handle_failure(places(error) if error else exc_string, *args, **kwargs)

    @property
    def func(self):
        _require_allowed(self.func_name)
        return import_string(self.func_name)

    def _verify(self) -> TenantRecord:
        """The tenant whose key signed this job. Raises ``ForgedJobError``."""
        if self.refusal:
            raise ForgedJobError(f"Job {self.id} is refused: {self.refusal}.")
        meta = self.meta if isinstance(self.meta, dict) else {}
        try:
            record = registry.get(UUID(hex=meta["tenant"]))
            expected, in_force = self._sign(record), record.verifies(meta["key"])
        except (KeyError, ValueError, TypeError, AttributeError, TenantNotFoundError):
            raise ForgedJobError(f"Job {self.id} names no tenant and key of ours.") from None
        signature = str(meta.get("signature")).encode(errors="replace")
        if not (in_force and hmac.compare_digest(expected.encode(), signature)):
            raise ForgedJobError(f"Job {self.id} was not made by this service, or was changed since.")
        return record

    def _sign(self, record: TenantRecord) -> str:
        acted_on = {
            "id": self.id,
            "queue": self.origin,
            "data": base64.b64encode(self.data).decode(),
            "timeout": self.timeout,
            "tenant": self.meta["tenant"],
            "key": self.meta["key"],
        }
        key = record.derived_key(self.meta["key"], "job")
        return hmac.new(key, json.dumps(acted_on, sort_keys=True).encode(), hashlib.sha256).hexdigest()


class TenantQueue(DjangoRQ):
    """
    django-rq's queue of such jobs. What is refused is refused at once, with nothing written; what is enqueued inside a
    transaction is written once that has committed.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs | {"job_class": TenantJob, "serializer": JSONSerializer})
        if not self._is_async:
            raise ForgedJobError("A queue with is_async=False would run jobs inside what is bound here: call them.")

    def enqueue_call(self, func, args=None, kwargs=None, *, pipeline=None, at_front=False, unique=False, **options):
        _require_no_options(options)
        job = self.create_job(func, args, kwargs, status=JobStatus.QUEUED, **options)
        transaction.on_commit(lambda: self.enqueue_job(job, pipeline=pipeline, at_front=at_front, unique=unique))
        return job

    def enqueue_many(self, job_datas, pipeline=None, group_id=None):
        raise ForgedJobError("enqueue_many() would not wait for the transaction: enqueue one by one.")

    def schedule_job(self, job, datetime, pipeline=None, unique=False):
        raise ForgedJobError("What is due later is written in the tenant's database: Redis may be wiped.")

    def enqueue_dependents(self, job, **options):
        """There are none, whatever Redis says."""

    def move_dependents_to_ready(self, job, **options):  # RQ 3's worker asks for this alone
        return {}

    @classmethod
    def dequeue_any(cls, queues, timeout, connection, job_class=None, serializer=None, death_penalty_class=None):
        while True:
            try:
                found = super().dequeue_any(
                    queues, timeout, connection, TenantJob, JSONSerializer, death_penalty_class=death_penalty_class
                )
            except ValueError:
                logger.error("An entry of a queue that is no job id is dropped")
                continue
            if found is not None:
                job, queue = found
                if job.origin != queue.name:
                    job.refusal = job.refusal or "it was made for another queue"
                    job.origin = queue.name
            return found


def _require_no_options(options: dict) -> None:
    for name in REFUSED_OPTIONS:
        if options.pop(name, None):
            raise ForgedJobError(f"Jobs have no {name}: what follows a job is decided in the tenant's database.")


def _require_allowed(function: object) -> None:
    if function not in settings.BULKHEAD_JOB_FUNCTIONS:
        raise ForgedJobError(f"{function!r:.80} is not a job function: settings.BULKHEAD_JOB_FUNCTIONS lists them.")


def _refuse_fields(raw: dict) -> str:
    for name in REFUSED_FIELDS:
        if raw.get(name):
            return f"it has {name.decode()}"
    for name in (*FIELDS, b"data"):
        if len(raw.get(name, b"")) > MAX_BYTES:
            return f"its {name.decode()} is too large"
    return ""


def _refuse_timeout(timeout: object) -> str:
    is_sane = type(timeout) is int and (timeout == -1 or 0 < timeout <= LONGEST_TIMEOUT_SECONDS)
    return "" if is_sane else "its timeout is none of ours"


def _refuse_data(data: bytes) -> str:
    if len(data) > MAX_BYTES:
        return "its data is too large"
    try:
        function, instance, args, kwargs = json.loads(data)
        _require_allowed(function)
    except (ValueError, TypeError, RecursionError):
        return "its data is not a function with arguments in JSON"
    except ForgedJobError as error:
        return str(error)
    is_call = instance is None and isinstance(args, list) and isinstance(kwargs, dict)
    return "" if is_call else "its data is not a function with arguments in JSON"


def _decompress(data: bytes) -> bytes:
    """One byte more than is allowed, at most: a few kilobytes can stand for gigabytes."""
    try:
        return zlib.decompressobj().decompress(data, MAX_BYTES + 1)
    except zlib.error:
        return data
