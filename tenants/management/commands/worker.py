import logging
import signal
import time
from contextlib import suppress

import django_rq
from redis import RedisError
from rq.exceptions import StopRequested

from tenants.management.base import TenancyCommand
from tenants.workers import TenantWorker

logger = logging.getLogger(__name__)
PAUSE_SECONDS = 1.0


class Command(TenancyCommand):
    help = "Run jobs, each in a process of its own and inside its tenant. Any number of workers may run."
    example = "worker"

    def add_arguments(self, parser):
        parser.add_argument("--burst", action="store_true", help="stop once the queue is empty")

    def handle(self, burst, **options):
        if burst:
            _make_worker().work(burst=True, logging_level="INFO")
            return
        with suppress(StopRequested):
            while not _work_until_asked_to_stop():
                time.sleep(PAUSE_SECONDS)


def _make_worker() -> TenantWorker:
    return TenantWorker([django_rq.get_queue("default")], connection=django_rq.get_connection("default"))


def _work_until_asked_to_stop() -> bool:
    """
    False when it was not asked to: RQ's worker ends when Redis goes, or takes no more, at a moment at which it cannot
    wait for it. No child runs then. Another one begins, as Redis refuses to know the same one twice.
    """
    _stop_on_signals()
    worker: TenantWorker | None = None
    error: RedisError | None = None
    try:
        worker = _make_worker()
        worker.work(logging_level="INFO")
    except RedisError as raised:
        error = raised
    finally:
        _stop_on_signals()  # in place of those of the worker, which would ask Redis
        if worker is not None and worker.pubsub_thread is not None:
            worker.pubsub_thread.stop()
    if worker is not None and worker._shutdown_requested_date is not None:
        return True
    logger.error("The worker has ended, and another one begins: %s", error or "see above")
    return False


def _stop_on_signals() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)


def _stop(*signal_and_frame) -> None:
    raise StopRequested
