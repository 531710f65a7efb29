"""Redis goes, fills up or forgets: what was accepted is in the tenants' databases."""

import signal

import django_rq
import pytest

from tests.faults.processes import start_service_again
from tests.faults.shortened import FACTOR

pytestmark = pytest.mark.parametrize("_engine", ["mysql"], ids=["MariaDB"], indirect=True)
MUST = "202 meanwhile; all end once; queue rebuilt within 60 s"


def sent(service):
    return lambda: all(service.dispatches()) and not any(state == "queued" for state, _ in service.states())


@pytest.mark.long
def test_scans_are_accepted_while_redis_is_stopped_and_run_once_it_is_back(service, fault):
    measured = fault("Redis stopped", MUST)
    service.start(dispatchers=1, workers=1)
    service.ask()
    service.wait_for_end()
    service.redis.process.kill()
    service.redis.process.wait()
    try:
        service.ask(count=3)
    finally:
        start_service_again(service.redis, service.processes.log("redis"))

    rebuilt = service.seconds_until(lambda: service.dispatches()[1])
    took = rebuilt + service.wait_for_end()

    service.assert_all_once()
    assert service.ended_too() == ""
    measured(f"4 of 4 accepted; first sent {rebuilt:.1f} s, last ended {took:.1f} s after its return")


@pytest.mark.parametrize("factor", [FACTOR, pytest.param(1, marks=pytest.mark.long)])
def test_jobs_that_redis_has_forgotten_are_sent_again(service, fault, factor):
    measured = fault(f"Redis flushed while jobs wait (intervals / {factor})", MUST)
    service.start(dispatchers=1, workers=0, FAULTS_FACTOR=str(factor))
    service.ask("acme")
    service.ask("globex")
    queue = django_rq.get_queue("default")
    service.seconds_until(lambda: queue.count == 2)
    queue.connection.flushall()

    rebuilt = service.seconds_until(lambda: queue.count == 2)
    service.processes.add("worker-0")
    service.wait_for_end()

    service.assert_all_once("acme")
    service.assert_all_once("globex")
    measured(f"2 of 2 in the queue again after {rebuilt:.1f} s")
    assert rebuilt < 60


@pytest.mark.long
def test_scans_are_accepted_while_redis_is_out_of_memory(service, fault):
    measured = fault("Redis out of memory (noeviction)", MUST)
    service.start(dispatchers=1, workers=1)
    connection = django_rq.get_connection("default")
    connection.config_set("maxmemory-policy", "noeviction")
    connection.config_set("maxmemory", "1")
    try:
        service.ask(count=3)
        service.seconds_until(lambda: ("queued", "not_sent") in service.states())
    finally:
        connection.config_set("maxmemory", "0")

    took = service.wait_for_end()

    service.assert_all_once()
    assert service.ended_too() == ""
    measured(f"3 of 3 accepted; all ended {took:.1f} s after there was room")


@pytest.mark.long
def test_another_redis_in_its_place_is_filled_again(service, fault):
    measured = fault("Redis replaced by an empty one, a scan running", MUST)
    service.start(dispatchers=1, workers=1, seconds=0.9)
    service.ask("acme")
    service.wait_for_engine()
    service.ask("acme", 2)
    service.ask("globex")
    service.redis.process.kill()
    service.redis.process.wait()
    start_service_again(service.redis, service.processes.log("redis"))

    took = service.wait_for_end()

    service.assert_all_once("acme")
    service.assert_all_once("globex")
    assert service.ended_too() == ""
    measured(f"4 of 4 ended {took:.1f} s after")


@pytest.mark.long
def test_a_worker_without_redis_waits_for_it_and_is_stopped_by_a_signal(service, fault):
    measured = fault("no Redis when a worker starts", "it waits; SIGTERM ends it")
    service.start(dispatchers=0, workers=0)
    service.redis.process.kill()
    service.redis.process.wait()
    try:
        service.processes.add("worker-0")
        worker, log = service.processes.running["worker-0"], service.processes.log("worker-0")
        service.seconds_until(lambda: log.read_text().count("another one begins") >= 2)
        assert worker.poll() is None
        worker.send_signal(signal.SIGTERM)
        took = service.seconds_until(lambda: worker.poll() is not None, 10)
    finally:
        start_service_again(service.redis, service.processes.log("redis"))

    assert worker.returncode == 0
    measured(f"ended {took:.1f} s after SIGTERM")


@pytest.mark.long
def test_a_worker_that_is_told_to_stop_without_redis_lets_its_child_end(service, fault):
    measured = fault("SIGTERM to a worker without Redis, a scan running", "its child ends the scan; then it ends")
    service.start(dispatchers=1, workers=1, seconds=2, profile={"ports": {"wait_ms": 10_000}})
    service.ask()
    service.wait_for_engine()
    worker = service.processes.running["worker-0"]
    service.redis.process.kill()
    service.redis.process.wait()
    try:
        worker.send_signal(signal.SIGTERM)
        took = service.seconds_until(lambda: worker.poll() is not None, 40)
        assert worker.returncode == 0
        assert service.states() == [("succeeded", "")] and service.leases() == [1]
    finally:
        start_service_again(service.redis, service.processes.log("redis"))

    service.assert_all_once()
    measured(f"ended {took:.1f} s after SIGTERM, its scan succeeded under its one lease")
