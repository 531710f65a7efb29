"""What the isolation core does where nothing is wrong and little happens: branches that no other test takes."""

import asyncio
import signal
import subprocess
from contextlib import nullcontext

import django_rq
import pytest
from django.contrib.auth import get_user_model
from django.db import DatabaseError, connection, connections, transaction
from django.http import StreamingHttpResponse
from django.test import RequestFactory
from redis import ConnectionError as NoConnection
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response
from rest_framework.views import APIView
from rq.exceptions import StopRequested
from rq.executions import Execution

from scans.models import ScanProfile
from tenants.authentication import PlaneAuthentication
from tenants.bodies import keep_bound
from tenants.connections import close_tenant_connections
from tenants.context import fleet_context, tenant_context
from tenants.exceptions import NoTenantError, WrongTenantError
from tenants.facets import Facet
from tenants.halts import require_still_served
from tenants.jobs import TenantJob
from tenants.planes import current
from tenants.registry import registry
from tenants.workers import TenantWorker
from tests.invariants.work import add, names
from tests.tenants.test_connections import leaked_transaction
from tests.tenants.test_jobs import send


def test_a_method_of_the_drivers_cursor_works_where_its_cursor_belongs(acme):
    with tenant_context("acme"), connection.cursor() as cursor:
        assert cursor.setinputsizes([1]) is None


def test_many_rows_are_written_where_their_cursor_belongs(acme, globex):
    with tenant_context("acme"):
        add("a"), add("b")
        with connection.cursor() as cursor:
            cursor.executemany(
                "UPDATE scans_scanprofile SET name = %s WHERE name = %s", [["row 1", "a"], ["row 2", "b"]]
            )
    assert (names("acme"), names("globex")) == ({"row 1", "row 2"}, set())


def test_a_procedure_is_the_engines_to_refuse_where_the_cursor_belongs(acme):
    with tenant_context("acme"), connection.cursor() as cursor, pytest.raises((DatabaseError, AttributeError)):
        cursor.callproc("no_such_procedure")


def test_the_migration_account_may_change_tables_inside_a_transaction(acme):
    with fleet_context("acme", "migration"):
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("CREATE TABLE made (id integer)")
        assert "made" in connection.introspection.table_names()
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE made")


def test_a_commit_on_a_connection_that_was_kept_to_where_nothing_is_bound_is_rolled_back_with_it(acme):
    generator, kept = leaked_transaction()
    with pytest.raises(NoTenantError):
        kept.commit()
    assert kept.retired
    with pytest.raises(WrongTenantError):
        generator.close()
    assert names("acme") == set()


def test_where_nothing_is_bound_no_database_but_default_is_even_looked_up(acme):
    for alias in ("control", acme.alias, "no_such"):
        with pytest.raises(NoTenantError):
            connections[alias]


def test_connections_that_a_transaction_uses_are_not_closed(acme):
    with tenant_context("acme"), transaction.atomic():
        add("row")
        close_tenant_connections()
        assert ScanProfile.objects.filter(name="row").exists()
    assert names("acme") == {"row"}


def test_a_queryset_is_iterated_over_to_its_end_in_an_event_loop(acme, alice, tom):
    async def everybody():
        async with tenant_context("acme"):
            return {user.username async for user in get_user_model().objects.aiterator()}

    assert asyncio.run(everybody()) == {"alice", "tom"}


def test_a_queryset_of_a_module_is_a_subquery_of_whatever_is_bound(acme, globex):
    of_a_module = ScanProfile.objects.filter(name="row")
    for tenant in (acme, globex):
        with tenant_context(tenant.slug):
            add("row"), add("other")
            assert ScanProfile.objects.filter(pk__in=of_a_module).get().name == "row"


def test_objects_of_no_database_may_be_put_into_a_queryset_where_nothing_is_bound(acme):
    unsaved = ScanProfile.objects.all()
    unsaved._result_cache = [ScanProfile(name="unsaved")]
    assert [each.name for each in unsaved] == ["unsaved"]


def test_where_nothing_is_bound_the_rows_of_a_block_are_refused_as_use_without_a_tenant(acme):
    with tenant_context("acme"):
        add("row")
        queryset = ScanProfile.objects.filter(name="row")
        rows = list(queryset)
    assert len(rows) == 1
    for use in (list, lambda each: each.count(), lambda each: each.all()):
        with pytest.raises(NoTenantError):
            use(queryset)
    with pytest.raises(NoTenantError):
        ScanProfile.objects.count()


def test_what_is_no_object_is_djangos_to_refuse(acme, alice):
    with tenant_context("acme"):
        with pytest.raises(TypeError, match="must be a model instance"):
            get_user_model().objects.contains("alice")
        with pytest.raises(AttributeError):
            get_user_model().objects.bulk_create(["alice"])


def test_a_body_without_an_end_of_its_own_is_closed_quietly(acme):
    with tenant_context("acme"):
        response = keep_bound(StreamingHttpResponse(iter([b"one"])), current())
    assert list(response.streaming_content) == [b"one"]
    response.close()
    assert current() is None


class Silent(Facet):
    name = "silent"


def test_a_facet_that_has_nothing_to_enter_need_not_say_so(acme):
    with tenant_context("acme"):
        assert Silent().bind(current()) is None


class MembersOnly(APIView):
    authentication_classes = [PlaneAuthentication]
    permission_classes = [IsAuthenticated]

    def get(self, request):
        return Response()


def test_a_member_view_outside_the_planes_answers_401_and_asks_for_a_token(installation):
    response = MembersOnly.as_view()(RequestFactory().get("/"))

    assert (response.status_code, response["WWW-Authenticate"]) == (401, "Bearer")


class Interrupted(dict):
    """What was read from Redis; while it is looked into, the worker is told to stop."""

    def __getitem__(self, name):
        if name == b"meta":
            signal.raise_signal(signal.SIGUSR1)
        return super().__getitem__(name)


def test_a_worker_that_is_told_to_stop_while_it_reads_a_job_stops(alice):
    def stop(*arguments):
        raise StopRequested

    job = send(alice)
    raw = Interrupted(job.connection.hgetall(job.key))
    before = signal.signal(signal.SIGUSR1, stop)
    try:
        with pytest.raises(StopRequested):
            TenantJob(job.id, connection=job.connection).restore(raw)
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_maintenance_without_redis_fails_as_rq_expects(installation):
    worker = TenantWorker(["default"], connection=django_rq.get_connection("default"))
    for queue in worker.queues:
        queue.connection = Redis(port=1)
    with pytest.raises(NoConnection):
        worker.run_maintenance_tasks()


@pytest.mark.parametrize("code", [0, 1])
def test_a_worker_waits_for_its_child_whether_redis_takes_its_heartbeats_or_not(installation, caplog, code):
    """The child ends once a heartbeat was lost; how it ended cannot be told to Redis, and that is the worker's end."""

    class Gone(Redis):
        def pipeline(self, *args, **kwargs):
            child.stdin.close()
            return super().pipeline(*args, **kwargs)

    gone = Gone(port=1, retry=Retry(NoBackoff(), 0))
    worker = TenantWorker(["default"], connection=django_rq.get_connection("default"), job_monitoring_interval=1)
    worker.connection = gone
    job = TenantJob("a-job", connection=gone)
    job.timeout, job.origin = -1, "default"
    with subprocess.Popen(["/bin/sh", "-c", f"read line; exit {code}"], stdin=subprocess.PIPE) as child:
        worker._horse_pid = child.pid
        with pytest.raises(NoConnection) if code else nullcontext():
            worker.monitor_work_horse(job, None, Execution("an-execution", job.id, connection=gone))

    assert worker.horse_pid == 0
    assert "Redis does not answer while job a-job runs" in caplog.text


def test_long_work_goes_on_while_control_cannot_be_read(acme, installation, settings):
    with tenant_context("acme"):
        registry.expire()
        genuine = dict(settings.DATABASES["control"])
        try:
            settings.DATABASES["control"]["NAME"] = "/nowhere/control"
            require_still_served()
        finally:
            settings.DATABASES["control"].update(genuine)
