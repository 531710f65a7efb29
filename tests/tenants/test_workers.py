"""The child of a worker's next job is forked before there is one: it is that job's alone, and as fresh as one after."""

import os
import signal
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import django_rq
import pytest

from scans.models import Scan
from tenants import workers
from tenants.context import tenant_context
from tenants.services import resume_tenant, suspend_tenant
from tenants.workers import WAITING
from tests.scans.scanning import start, wait_until
from tests.tenants.test_jobs import fences, handlers, send  # noqa: F401  a fixture


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_there(pid: int) -> bool:
    with suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


@contextmanager
def worker():
    """With the process, and what tells the one child of a worker that waits."""
    process = start("worker")

    def spare() -> int:
        def ready():
            found = children_of(process.pid)
            return found if [Path(f"/proc/{pid}/comm").read_text().strip() for pid in found] == [WAITING] else None

        [found] = wait_until(ready, seconds=20)
        return found

    try:
        yield process, spare
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def is_run(message: str) -> bool:
    return fences()[message] > 0


def test_a_job_runs_in_a_process_that_was_there_before_it_and_ends_with_it(alice):
    with worker() as (process, spare):
        used = []
        for _ in range(2):
            used.append(spare())
            job = send(alice)
            wait_until(lambda job=job: is_run(job.id), seconds=20)
            wait_until(lambda: not is_there(used[-1]), seconds=20)

        assert len({*used, spare(), process.pid}) == 4


def connections_of(pid: int, installation) -> list[str]:
    """To databases."""
    opened = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            opened.append(os.readlink(link))
    if installation.engine == "sqlite":
        return [name for name in opened if ".sqlite3" in name]
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [line[2] for line in lines if _port(line[2]) == installation.server.port and f"socket:[{line[9]}]" in opened]


def _port(address: str) -> int:
    return int(address.partition(":")[2], 16)


def test_it_waits_without_a_connection_to_any_database_and_so_does_its_worker(alice, installation):
    with worker() as (process, spare):
        job = send(alice)
        wait_until(lambda: is_run(job.id), seconds=20)  # the worker has looked its tenant up

        assert [connections_of(pid, installation) for pid in (spare(), process.pid)] == [[], []]
    with tenant_context("acme"):
        Scan.objects.count()
        assert connections_of(os.getpid(), installation)  # they would be seen


def test_one_that_was_killed_is_replaced_and_the_next_job_is_run(alice):
    with worker() as (_, spare):
        pid = spare()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_there(pid), seconds=20)  # else it may be given the job that it dies with
        job = send(alice)

        wait_until(lambda: is_run(job.id), seconds=20)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.usefixtures("handlers")
def test_a_job_is_waited_for_when_no_process_is_to_be_had_for_the_next(alice, monkeypatch):
    class Scarce(workers.Spare):
        made = 0

        def __init__(self, *work):
            Scarce.made += 1
            if Scarce.made > 1:
                raise BlockingIOError("there are as many processes as may be")
            super().__init__(*work)

    monkeypatch.setattr(workers, "Spare", Scarce)
    jobs = [send(alice) for _ in range(2)]

    django_rq.get_worker("default").work(burst=True)

    assert [fences()[job.id] for job in jobs] == [1, 1] and Scarce.made > 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=lambda number: number.name)
def test_it_ends_with_its_worker_however_that_ends(acme, number):
    with worker() as (process, spare):
        pid = spare()
        process.send_signal(number)
        process.wait(20)

        wait_until(lambda: not is_there(pid), seconds=5)


def test_a_child_that_is_told_to_stop_as_it_begins_never_runs_its_makers_code(monkeypatch):
    class Told(BaseException):
        pass

    def stop(*of_signal):
        raise Told

    def fork():
        if not (pid := real_fork()):
            os.kill(os.getpid(), signal.SIGTERM)
        return pid

    maker, real_fork = os.getpid(), os.fork
    before = signal.signal(signal.SIGTERM, stop)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(workers.os, "fork", fork)
            spare = workers.Spare(list, list, list)
    except Told:
        assert os.getpid() == maker or os._exit(3)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)

    assert os.waitstatus_to_exitcode(os.waitpid(spare.pid, 0)[1]) == 1
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, ()) & {signal.SIGTERM, signal.SIGINT}


def test_what_a_worker_knows_of_a_tenant_is_looked_at_again_when_there_is_a_job(acme, alice):
    with worker() as (process, spare):
        first = send(alice)
        wait_until(lambda: is_run(first.id), seconds=20)
        pid = spare()
        process.send_signal(signal.SIGSTOP)
        job = send(alice)
        suspend_tenant(slug="acme")
        time.sleep(2)  # within which it is heard of
        process.send_signal(signal.SIGCONT)
        wait_until(lambda: not is_there(pid), seconds=20)
        resume_tenant(slug="acme")

        assert fences()[job.id] == 0


def test_a_job_leaves_nothing_of_its_execution_in_redis(alice):
    redis = django_rq.get_connection("default")
    with worker() as (_, spare):
        for _ in range(3):
            job = send(alice)
            wait_until(lambda job=job: is_run(job.id), seconds=20)
            spare()

        left = [key for pattern in ("rq:execution*", "rq:worker:*:executions") for key in redis.keys(pattern)]
        assert left == [] and redis.zcard("rq:wip:default") == 0
