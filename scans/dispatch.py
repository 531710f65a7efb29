"""
The dispatcher: takes tasks from the tenants' outboxes and hands them to workers, at most one per tenant a round.

Any number may run. Each reads a tenant's tasks bound to that tenant, and what it knows from one tenant is gone before
the next: there is no session to keep a row in.
"""

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from itertools import takewhile
from uuid import UUID

import django_rq
from django.db import connection
from redis import RedisError

from scans.exceptions import NotSent, ScanRefused, TasksHeld
from scans.jobs import run_scan
from scans.leases import blocked_seconds, claim_next, put_back, put_to_rest
from scans.limits import require_engine_seconds
from scans.load import Loads
from scans.models import Scan, TaskQueue
from scans.rounds import LONGEST_WAIT_SECONDS, Held, Rounds, Waiting, all_tenants, note_next_look, put_off
from scans.services import require_permission_to_scan
from scans.states import move
from scans.wakeup import connect, wait_for_work
from tenants.breakers import silent_servers
from tenants.context import tenant_context
from tenants.exceptions import TenantError, WorkHaltedError
from tenants.halts import require_not_halted
from tenants.servers import find_silent_servers

logger = logging.getLogger(__name__)

RETRY_SECONDS = 5.0  # after Redis did not take a job, before anybody's is sent

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
    """
    Send the bound tenant's oldest due task to a worker, if it may run; False when there was none. Raises ``NotSent``
    when Redis does not take it.
    """
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
        move(scan.pk, Scan.State.QUEUED, of=(Scan.State.DISPATCHED,), reason="not_sent")
        put_back(task, 0)  # another dispatcher may reach Redis; this one waits before it takes anything
        raise NotSent(f"Task {task.message_id} could not be sent and stays in the outbox: {error}") from error
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
    One task of each tenant; the tenants that may have more. What goes wrong in one stops no other, but that Redis takes
    no job: then ``held`` holds everybody for a while, and all who are left may have more. ``unasked`` are those who are
    looked at for no reason but that it is their turn.
    """
    unfinished, silent = [], frozenset(silent_servers())
    held = Held() if held is None else held
    for tenant in tenants:
        if held.seconds_for_all():
            unfinished.append(tenant)
            continue
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
        except NotSent as error:
            logger.warning("%s", error)
            held.add_all(RETRY_SECONDS)
            unfinished.append(tenant)
            continue
        except TenantError as error:
            logger.warning("Tenant %s is passed over: %s", tenant, error)
        except Exception:
            logger.exception("Tenant %s could not be dispatched", tenant)
        held.release(tenant)
        if tenant in hints:
            put_off(tenant, hints[tenant])
        silent = find_silent_servers(silent)
    return unfinished


def sweep(send: Send = enqueue) -> None:
    """Round after round over all tenants, until nobody has a due task that there is room for, or Redis takes none."""
    tenants: list = all_tenants()
    loads, held = Loads(), Held()
    loads.read()
    while tenants and not held.seconds_for_all():
        tenants = run_round(tenants, send, loads=loads, held=held, unasked=set(tenants)) or held.wait()
    loads.note()


def run_dispatcher(should_stop: Callable[[], bool]) -> None:
    """Woken by Redis; and, because Redis may forget, by hints in control and a slow round over all tenants."""
    rounds, waiting, loads, held = Rounds(), Waiting(), Loads(), Held()
    hints: dict[UUID | str, datetime] = {}
    asking = 0
    while not should_stop():
        if seconds := held.seconds_for_all():
            time.sleep(min(seconds, LONGEST_WAIT_SECONDS))  # meanwhile wake-ups are kept by Redis, hints by control
            loads.go_on()
            continue
        due, few = rounds.due(asking)
        hints |= due
        is_idle = not (waiting or due or few)
        woken = wait_for_work(min(rounds.wait_seconds(), held.wait_seconds()) if is_idle else 0)
        waiting.add([*woken, *held.due()], hinted=due)
        unasked = [tenant for tenant in few if tenant not in waiting]
        turn = waiting.take()
        asking = len(turn)
        turn += unasked  # last: hardly any of them has work
        going_on = takewhile(lambda each: not should_stop(), turn)
        unfinished = run_round(going_on, hints=hints, loads=loads, held=held, unasked=unasked)
        waiting.add(unfinished)
        rounds.served(set(unfinished).difference(hints))
        hints = {tenant: hint for tenant, hint in hints.items() if tenant in waiting}
        loads.go_on()
    rounds.end()
    loads.end()
