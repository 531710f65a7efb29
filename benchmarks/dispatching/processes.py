"""
The processes that are compared: `python -m benchmarks.dispatching.processes dispatch`.

``dispatch`` and ``worker`` are the product's commands. A dispatcher notes when its first round over all tenants, which
is as fast as it can be, is over; a worker when a scan's job has begun, when it has its lease and when it is done, and
it runs no engine. ``stock QUEUE`` is RQ's own forking worker in the same Django.
"""

import os
import sys

import django

django.setup()

from django.core.management import execute_from_command_line  # noqa: E402
from redis import Redis  # noqa: E402
from rq import Queue, Worker  # noqa: E402

from benchmarks.dispatching.starts import note  # noqa: E402
from scans import jobs, rounds  # noqa: E402

run_scan, take_lease, next_few = jobs.run_scan, jobs.take_lease, rounds.Rounds._next_few


def run_noted(message_id):
    note(message_id)
    run_scan(message_id)
    note(message_id, "ended")


def take_noted(message_id):
    lease = take_lease(message_id)
    note(str(message_id), "leased")
    return lease


def next_noted(self, *args):
    few = next_few(self, *args)
    if not few and self._tenants:
        note(str(os.getpid()), "looked-at-all")
        rounds.Rounds._next_few = next_few
    return few


def main(what, *queues):
    if what == "stock":
        redis = Redis.from_url(os.environ["REDIS_URL"])
        Worker([Queue(name, connection=redis) for name in queues], connection=redis).work(logging_level="WARNING")
        return
    if what == "worker":
        jobs.run_scan, jobs.take_lease, jobs._run_engine = run_noted, take_noted, lambda *_, **__: None
    if what == "dispatch":
        rounds.Rounds._next_few = next_noted
    execute_from_command_line(["manage.py", what])


if __name__ == "__main__":
    main(*sys.argv[1:])
