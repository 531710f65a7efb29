"""
The dispatcher: takes tasks from the tenants' outboxes and hands them to workers, at most one per tenant a round.

Any number may run. Each reads a tenant's tasks bound to that tenant, and what it knows from one tenant is gone before
the next: there is no session to keep a row in.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from itertools import takewhile
from uuid import UUID

import django_rq
from django.db import connection
from redis import RedisError

from scans.exceptions import ScanRefused, TasksHeld
from scans.jobs import run_scan
from scans.leases import blocked_seconds, claim_next, put_back, put_to_rest
from scans.limits import require_engine_seconds
from scans.load import Loads
from scans.models import Scan, TaskQueue
from scans.rounds import Held, Rounds, all_tenants, note_next_look
from scans.services import require_permission_to_scan
from scans.states import move
from scans.wakeup import connect, wait_for_work
from tenants.breakers import silent_servers
from tenants.context import tenant_context
from tenants.exceptions import TenantError, WorkHaltedError
from tenants.halts import require_not_halted
from tenants.servers import find_silent_servers

logger = logging.getLogger(__name__)

RETRY_SECONDS = 5  # after Redis did not take a job

NO_HINTS: Mapping[UUID | str, datetime] = {}
Send = Callable[[TaskQueue], object]


def enqueue(task: TaskQueue) -> None:
    """The job's id is the message's: sent twice, it is one job, and the worker compares the two."""
    message_id = str(task.message_id)
    queue = django_rq.get_queue("default", connection=connect())
    # One that was sent before may have waited there for longer than it was given.
    if not task.dispatches or queue.get_job_position(message_id) is None:
        queue.enqueue(run_scan, message_id, job_id=message_id, job_timeout=-1)


def dispatch_next(send: Send = enqueue) -> bool:
    """Send the bound tenant's oldest due task to a worker, if it may run; False when there was none."""
    task = claim_next()
    if task is None:
        return False
    scan = Scan.objects.select_related("target", "profile").get(number=task.task_id)
    if put_to_rest(task, scan):
        return True
    try:
        require_permission_to_scan(scan.target, scan.profile)
        require_engine_seconds()
        require_not_halted(scan.profile.engines)
    except (ScanRefused, WorkHaltedError) as refusal:
        if scan.state in Scan.WAITING:  # else its worker has died: the next one finds this out, and gives it back
            move(scan.pk, Scan.State.BLOCKED, of=Scan.WAITING, reason=refusal.code)
            put_back(task, blocked_seconds(task.dispatches))
            return True
    if not move(scan.pk, Scan.State.DISPATCHED) and scan.state in (Scan.State.QUEUED, Scan.State.BLOCKED):
        return True  # a member has paused or cancelled it meanwhile
    try:
        send(task)
    except (RedisError, OSError) as error:
        logger.warning("Task %s could not be sent and stays in the outbox: %s", task.message_id, error)
        move(scan.pk, Scan.State.QUEUED, of=(Scan.State.DISPATCHED,), reason="not_sent")
        put_back(task, RETRY_SECONDS)
    return True


def run_round(
    tenants: Iterable[UUID | str],
    send: Send = enqueue,
    hints: Mapping[UUID | str, datetime] = NO_HINTS,
    loads: Loads | None = None,
    held: Held | None = None,
    unasked: Collection[UUID | str] = (),
) -> list[UUID | str]:
    """
    One task of each tenant; the tenants that may have more. What goes wrong in one stops no other. ``unasked`` are
    those who are looked at for no reason but that it is their turn.
    """
    unfinished, silent = [], frozenset(silent_servers())
    held = Held() if held is None else held
    for tenant in tenants:
        try:
            with tenant_context(tenant):
                if dispatch_next(send):
                    unfinished.append(tenant)
                else:
                    if tenant in hints:
                        note_next_look(hints[tenant])
                    if loads:
                        loads.look(is_asked=tenant not in unasked)
                    if tenant in unasked:
                        connection.close()  # it will not be used again before others, which are kept open
            held.release(tenant)
            continue
        except TasksHeld as error:
            held.add(tenant, error)
            continue
        except TenantError as error:
            logger.warning("Tenant %s is passed over: %s", tenant, error)
        except Exception:
            logger.exception("Tenant %s could not be dispatched", tenant)
        held.release(tenant)
        silent = find_silent_servers(silent)
    return unfinished


def sweep(send: Send = enqueue) -> None:
    """Round after round over all tenants, until nobody has a due task that there is room for."""
    tenants: list = all_tenants()
    loads, held = Loads(), Held()
    loads.read()
    while tenants:
        tenants = run_round(tenants, send, loads=loads, held=held, unasked=set(tenants)) or held.wait()
    loads.note()


def run_dispatcher(should_stop: Callable[[], bool]) -> None:
    """Woken by Redis; and, because Redis may forget, by hints in control and a slow round over all tenants."""
    rounds, loads, held = Rounds(), Loads(), Held()
    hints: dict[UUID | str, datetime] = {}
    waiting: dict[UUID | str, None] = {}  # an ordered set: who asked first is served first
    asking = 0
    while not should_stop():
        due, few = rounds.due(asking)
        hints |= due
        woken = wait_for_work(0 if waiting or due or few else min(rounds.wait_seconds(), held.wait_seconds()))
        waiting |= dict.fromkeys([*woken, *due, *held.due()])
        asking, unasked = len(waiting), set(few).difference(waiting)
        waiting |= dict.fromkeys(few)  # last: hardly any of them has work
        going_on = takewhile(lambda each: not should_stop(), waiting)
        waiting = dict.fromkeys(run_round(going_on, hints=hints, loads=loads, held=held, unasked=unasked))
        hints = {tenant: hint for tenant, hint in hints.items() if tenant in waiting}
        loads.go_on()
    loads.end()
