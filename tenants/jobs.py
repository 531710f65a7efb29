"""
RQ jobs that carry their tenant unasked, and run nothing that was not signed for it.

Whoever can write to Redis could otherwise run code: function and callback names are dotted paths. So a job is signed
with its tenant's key over everything RQ acts on; functions come from an allow-list; callbacks, webhooks and
dependencies are not used at all; and data is JSON, whatever a queue or worker was configured with. A replayed job is
genuine: what stops it is the claim on its row in the tenant's database.
"""

import base64
import hashlib
import hmac
import json
from uuid import UUID

from django.conf import settings
from django.utils.module_loading import import_string
from django_rq.queues import DjangoRQ
from rq import Worker
from rq.job import Job
from rq.serializers import JSONSerializer

from tenants.connections import close_tenant_connections
from tenants.context import current_record, tenant_context
from tenants.exceptions import ForgedJobError, TenantNotFoundError, WrongTenantError
from tenants.registry import TenantRecord, registry

FAILURES_ARE_KEPT_SECONDS = 7 * 24 * 3600
REFUSED_OPTIONS = ("on_success", "on_failure", "on_stopped", "webhooks", "depends_on", "retry")


class TenantJob(Job):
    def __init__(self, id=None, connection=None, serializer=None):
        super().__init__(id, connection=connection, serializer=JSONSerializer)  # never pickle, whoever asks for it

    @classmethod
    def create(cls, func, *args, **options):
        """Raises ``NoTenantError`` unbound, ``WrongTenantError`` for another tenant, ``ForgedJobError`` otherwise."""
        record = current_record()
        meta = options.pop("meta", None) or {}
        if meta.get("tenant", record.snapshot.id.hex) != record.snapshot.id.hex:
            raise WrongTenantError(f"A job for another tenant was made inside {record.snapshot.slug!r}.")
        for name in REFUSED_OPTIONS:
            if options.pop(name, None):
                raise ForgedJobError(f"Jobs have no {name}: what follows a job is decided in the tenant's database.")
        options |= {"result_ttl": 0, "failure_ttl": FAILURES_ARE_KEPT_SECONDS}
        job = super().create(func, *args, **options)
        _require_allowed(job.func_name)
        job.description = job.func_name  # arguments have no place in lists and logs
        number = max(record.signing_keys)
        job.meta = meta | {"tenant": record.snapshot.id.hex, "key": number}
        job.meta["signature"] = _sign(record, number, job._signed_content())
        return job

    def restore(self, raw_data):
        super().restore(raw_data)
        self._content = self._signed_content()
        # RQ imports and calls these in places that a check in perform() does not cover, in its maintenance too.
        self._success_callback_name = self._failure_callback_name = self._stopped_callback_name = None
        self.webhooks = []
        self._dependency_ids = []

    def perform(self):
        record = self._verify()
        with tenant_context(record.snapshot.id):
            return super().perform()

    @property
    def func(self):
        _require_allowed(self.func_name)
        return import_string(self.func_name)

    def _verify(self) -> TenantRecord:
        """The tenant whose key signed this job. Raises ``ForgedJobError``."""
        content = getattr(self, "_content", None) or self._signed_content()
        meta = self.meta if isinstance(self.meta, dict) else {}
        try:
            record = registry.get(UUID(hex=meta["tenant"]))
            expected = _sign(record, meta["key"], content)
        except (KeyError, ValueError, TypeError, AttributeError, TenantNotFoundError):
            raise ForgedJobError(f"Job {self.id} names no tenant and key of ours.") from None
        if not hmac.compare_digest(expected.encode(), str(meta.get("signature")).encode()):
            raise ForgedJobError(f"Job {self.id} was not made by this service, or was changed since.")
        return record

    def _signed_content(self) -> bytes:
        meta = self.meta if isinstance(self.meta, dict) else {}
        acted_on = {
            "id": self.id,
            "queue": self.origin,
            "data": base64.b64encode(self.data).decode(),
            "timeout": self.timeout,
            "callbacks": [self._success_callback_name, self._failure_callback_name, self._stopped_callback_name],
            "webhooks": [webhook.to_dict() for webhook in self.webhooks or []],
            "dependencies": self._dependency_ids,
            "tenant": meta.get("tenant"),
            "key": meta.get("key"),
        }
        return json.dumps(acted_on, sort_keys=True).encode()


class TenantQueue(DjangoRQ):
    """django-rq's queue, refusing before anything waits for a commit what ``TenantJob`` would refuse after it."""

    def __init__(self, *args, **kwargs):
        kwargs["job_class"] = TenantJob
        super().__init__(*args, **kwargs)

    def enqueue_call(self, *args, **kwargs):
        current_record()
        return super().enqueue_call(*args, **kwargs)


class TenantWorker(Worker):
    """RQ's forking worker. The child starts unbound and without connections; the parent keeps none either."""

    def __init__(self, *args, **kwargs):
        kwargs |= {"job_class": TenantJob, "serializer": JSONSerializer}
        super().__init__(*args, **kwargs)

    def execute_job(self, job, queue):
        close_tenant_connections()
        super().execute_job(job, queue)


def _require_allowed(function: str | None) -> None:
    if function not in settings.BULKHEAD_JOB_FUNCTIONS:
        raise ForgedJobError(f"{function!r:.80} is not a job function: settings.BULKHEAD_JOB_FUNCTIONS lists them.")


def _sign(record: TenantRecord, number: int, content: bytes) -> str:
    key = hmac.digest(bytes.fromhex(record.signing_keys[number]), b"bulkhead job envelope 1", hashlib.sha256)
    return hmac.new(key, content, hashlib.sha256).hexdigest()
