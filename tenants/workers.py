"""
The worker: RQ's, which runs each job in a process of its own, forked before there is a job for it.

Forking, meeting Redis anew and what a process does for the first time were half of the time in which a job started
(docs/adr/0022-how-soon-a-job-starts.md). So a worker does them while it waits. What it keeps for its children is no
secret of any tenant, and no connection.
"""

import gc
import json
import logging
import os
import select
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError
from django.utils.module_loading import import_string
from redis import RedisError, ResponseError
from rq import Worker
from rq.executions import Execution
from rq.serializers import JSONSerializer

from tenants.binding import unbound
from tenants.connections import close_tenant_connections
from tenants.context import control_plane
from tenants.exceptions import TenantError
from tenants.jobs import TenantJob, TenantQueue
from tenants.models import Tenant
from tenants.registry import registry
from tenants.secrets import give_up_fleet_key, seal, unseal

logger = logging.getLogger(__name__)
LULL_SECONDS = 0.05  # without a job, before a child warms up: until then the processors are for jobs that have begun
STOPS = {signal.SIGTERM, signal.SIGINT}
WAITING, WORKING = "worker, waiting", "worker, working"  # 15 bytes at most: what `ps -o comm` shows of a child


class Spare:
    """Runs ``work`` with what it is given, and ends when whoever made it ends, however that one does."""

    def __init__(self, get_ready: Callable[[], object], warm_up: Callable[[], object], work: Callable[..., object]):
        reading, self._writing = os.pipe()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            # What a signal raises must not be raised in the child before it is where nothing gets out.
            signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
            self.pid = os.fork()
            if not self.pid:
                self._live(reading, before, get_ready, warm_up, work)
        except BaseException:
            os.close(self._writing)
            raise
        finally:
            os.close(reading)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def _live(self, reading: int, signals: set, get_ready, warm_up, work) -> NoReturn:
        status = 1
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, signals)
            os.close(self._writing)
            _be_called(WAITING)
            get_ready()
            if not select.select([reading], [], [], LULL_SECONDS)[0]:
                warm_up()
            with os.fdopen(reading) as pipe:
                given = pipe.read()
            if given:
                _be_called(WORKING)
                work(*json.loads(given))
            status = 0
        except Exception:
            logger.exception("The process of a job has ended before the job began")
        finally:
            os._exit(status)  # never into the code of who made it

    def give(self, *arguments: object) -> bool:
        """False if it has died."""
        try:
            with os.fdopen(self._writing, "w") as pipe:
                json.dump(arguments, pipe)
        except BrokenPipeError:
            os.waitpid(self.pid, 0)
            return False
        return True

    def end(self) -> None:
        os.close(self._writing)
        os.kill(self.pid, signal.SIGKILL)  # it may be waiting for a Redis that hangs
        os.waitpid(self.pid, 0)


def _be_called(name: str) -> None:
    with suppress(OSError), open("/proc/self/comm", "w") as file:
        file.write(name)


class TenantWorker(Worker):
    """
    RQ's forking worker. It begins unbound and without the fleet key, wherever it was started; the child starts unbound
    and without connections, and the parent keeps none either. The child of the next job is forked while there is none.
    """

    _spare: Spare | None = None

    def __init__(self, *args, **kwargs):
        kwargs |= {"job_class": TenantJob, "queue_class": TenantQueue, "serializer": JSONSerializer}
        super().__init__(*args, **kwargs)

    def work(self, *args, **kwargs):
        give_up_fleet_key()
        with unbound():
            _warm_up()
            try:
                return super().work(*args, **kwargs)
            finally:
                if self._spare is not None:
                    self._spare.end()
                    self._spare = None

    def dequeue_job_and_maintain_ttl(self, *args, **kwargs):
        with suppress(OSError):  # no process is to be had for now; for the job it is tried again
            self._make_spare()
        return super().dequeue_job_and_maintain_ttl(*args, **kwargs)

    def fork_work_horse(self, job, queue):
        spare, self._spare = self._spare, None
        if spare is not None:
            self._horse_pid = spare.pid
            if spare.give(job.id, queue.name, self.execution.id, job.refusal):
                self._get_ready_for_next(job)
                return
        close_tenant_connections()
        super().fork_work_horse(job, queue)

    def _get_ready_for_next(self, job):
        """Whatever fails here, somebody has to wait for the job's process."""
        try:
            # Of a job that nobody has verified yet.
            with suppress(KeyError, TypeError, ValueError, AttributeError, TenantError):
                registry.get(UUID(hex=job.meta["tenant"]))  # so that the next children need not look it up
            self._make_spare()
        except (OSError, RedisError) as error:
            logger.warning("The next job's process is forked when there is a job: %s", error)

    def _make_spare(self):
        if self._spare is None:
            close_tenant_connections()
            self._spare = Spare(self._get_ready, self._meet_servers, self._work_as_spare)

    def _get_ready(self):
        os.setpgrp()
        self.setup_work_horse_signals()

    def _meet_servers(self):
        with suppress(RedisError):  # else it is met when there is a job
            pool = self.connection.connection_pool
            pool.release(pool.get_connection())
        # What the job will do first, done once without it: a process that was forked copies each page of its memory
        # when it first writes there, and counting references is writing.
        with suppress(TenantError):
            registry.look()
        close_tenant_connections()

    def _work_as_spare(self, job_id, queue_name, execution_id, refusal):
        os.environ |= {"RQ_WORKER_ID": self.name, "RQ_JOB_ID": job_id}
        job = TenantJob.fetch(job_id, connection=self.connection)
        job.refusal, job.origin = refusal or job.refusal, queue_name
        self.execution = Execution(execution_id, job_id, connection=self.connection)
        self.execution._job = job
        self.main_work_horse(job, next(queue for queue in self.queues if queue.name == queue_name))

    def monitor_work_horse(self, job, queue, execution):
        """The child works for a tenant's database, and is waited for whether Redis takes the heartbeats or not."""
        while True:
            try:
                return super().monitor_work_horse(job, queue, execution)
            except RedisError as error:
                if not self.horse_pid:
                    raise
                logger.warning("Redis does not answer while job %s runs: %s", job.id, error)

    def run_maintenance_tasks(self):
        try:
            super().run_maintenance_tasks()
        except Exception as error:  # RQ's worker would end, and so would the next one
            if isinstance(error, RedisError) and not isinstance(error, ResponseError):  # Redis is not there
                raise
            logger.exception("RQ's maintenance met something in Redis that it cannot read")


def _warm_up() -> None:
    """What Python, Django and OpenSSL do once, lazily, a worker does before it forks: each child would do it again."""
    for name in settings.BULKHEAD_JOB_FUNCTIONS:
        import_string(name)
    try:
        with control_plane():
            for tenant in Tenant.objects.filter(state=Tenant.State.ACTIVE).values_list("pk", flat=True)[:1]:
                registry.get(tenant)
        nothing: dict[str, Any] = {"key": "runtime", "tenant": "", "field": "", "version": 0}
        unseal(seal("", **nothing), **nothing)
    except (DatabaseError, TenantError) as error:
        logger.warning("The worker begins cold: %s", error)
    finally:
        close_tenant_connections()
    gc.freeze()
