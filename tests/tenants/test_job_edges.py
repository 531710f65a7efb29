"""What is refused of a job in this process, each reason by its own name, and what a refusal leaves behind."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import django_rq
import pytest
from rq import SimpleWorker

from scans.jobs import run_scan
from tenants.context import tenant_context
from tenants.exceptions import ForgedJobError, TenantSuspendedError
from tenants.halts import require_still_served
from tenants.jobs import MAX_BYTES, TenantJob, TenantQueue
from tenants.services import suspend_tenant
from tests.tenants.test_jobs import failed, send, work


@pytest.fixture
def broker(installation):
    return django_rq.get_connection("default")


@pytest.fixture
def job(acme, broker):
    with tenant_context("acme"):
        return TenantJob.create(run_scan, ("message",), connection=broker, origin="default", timeout=-1)


def test_the_job_as_it_was_made_is_its_tenants(job, acme):
    assert job._verify().snapshot.id == acme.id


UNREADABLE = {
    "no tenant": {"tenant": None},
    "no UUID": {"tenant": "acme"},
    "a number": {"tenant": 5},
    "nobody's UUID": {"tenant": uuid.UUID(int=5).hex},
    "no such key": {"key": 7},
    "a list for a key": {"key": []},
}


@pytest.mark.parametrize("changes", UNREADABLE.values(), ids=UNREADABLE)
def test_a_job_whose_envelope_names_nothing_of_ours_is_forged(job, changes):
    job.meta = job.meta | changes
    with pytest.raises(ForgedJobError, match="names no tenant and key of ours"):
        job._verify()


@pytest.mark.parametrize("missing", ["tenant", "key"])
def test_a_job_whose_envelope_lacks_a_part_is_forged(job, missing):
    del job.meta[missing]
    with pytest.raises(ForgedJobError, match="names no tenant and key of ours"):
        job._verify()


REASONS = {
    "its origin is too large": {"origin": "x" * (MAX_BYTES + 1)},
    "its data is not a function with arguments in JSON": {"data": "no JSON"},
    "'os.system' is not a job function": {"data": '["os.system", null, [], {}]'},
}


@pytest.mark.parametrize("reason", REASONS)
def test_why_a_job_is_refused_is_told(job, broker, reason):
    job.save()
    broker.hset(job.key, mapping=REASONS[reason])
    with pytest.raises(ForgedJobError, match=f"is refused: {reason}"):
        TenantJob.fetch(job.id, connection=broker)._verify()


def test_a_function_that_came_to_stand_in_a_job_later_is_not_imported(job):
    assert job.func is run_scan
    job.func_name = "os.system"
    with pytest.raises(ForgedJobError, match="os.system"):
        job.func  # noqa: B018


@pytest.mark.parametrize("option", ["on_success", "depends_on", "group_id", "rate_limit"])
def test_a_job_is_made_without_options_by_whoever_makes_it(acme, broker, option):
    with tenant_context("acme"), pytest.raises(ForgedJobError, match=option):
        TenantJob.create(run_scan, connection=broker, **{option: "something"})


@pytest.mark.parametrize("option", ["retry", "repeat", "rate_limit", "webhooks"])
def test_a_job_is_enqueued_without_options(acme, broker, option):
    with tenant_context("acme"), pytest.raises(ForgedJobError, match=option):
        TenantQueue("default", connection=broker).enqueue_call(run_scan, **{option: "something"})


def test_long_work_of_a_tenant_that_is_no_longer_served_is_told_so(acme):
    with tenant_context("acme"):
        elsewhere(lambda: suspend_tenant(slug="acme"))
        with pytest.raises(TenantSuspendedError):
            require_still_served()


def elsewhere(function):
    """In a thread, which starts unbound."""
    with ThreadPoolExecutor(1) as outside:
        outside.submit(function).result()


def test_a_suspended_tenants_job_is_dropped_and_not_failed(alice, broker, caplog):
    job = send(alice)
    suspend_tenant(slug="acme")
    work(SimpleWorker)
    assert f"Job {job.id} is not run: Tenant 'acme' is suspended." in caplog.text
    assert job.id not in failed(broker)
