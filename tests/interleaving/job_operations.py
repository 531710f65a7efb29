"""Jobs through the real queue: enqueued inside one tenant, performed later inside whatever unit finds them."""

from django.db import transaction

from tests.interleaving import jobs
from tests.interleaving.canaries import NotRefused, Unexpected, require_own, shared_key
from tests.interleaving.unit import operation


@operation("job", 1.6)
def enqueue_a_job(unit):
    """In a transaction that is rolled back there is none."""
    if not unit.machine.has_jobs:
        return
    if unit.chance.random() < 0.3:
        try:
            with transaction.atomic():
                unit.stack.enqueue(unit.mark())
                raise LookupError
        except LookupError:
            return
    mark = unit.mark()
    unit.stack.enqueue(mark)
    unit.machine.jobs.append((unit.tenant, mark))


@operation("foreign", 0.3)
def enqueue_a_job_for_another_tenant(unit):
    other = unit.free_tenant(but=unit.tenant)
    if unit.stack.is_guarded:
        meta = {"tenant": unit.stack.ids[other]}
        unit.must_be_refused("a job for another tenant", lambda: unit.stack.enqueue(unit.mark(), meta=meta))


def perform(unit) -> bool:
    """The oldest job, if its tenant is nobody's at this moment."""
    machine = unit.machine
    if not machine.jobs or machine.jobs[0][0] in machine.held:
        return False
    tenant, mark = machine.jobs.popleft()
    unit.count("job", f"perform a job of tenant {tenant}")
    job = unit.stack.dequeue()
    if job is None:
        raise Unexpected(f"The job {mark} is not in the queue")
    if unit.stack.is_guarded and unit.chance.random() < 0.2:
        _forge(unit, job)
    jobs.performed.clear()
    job.perform()
    job.delete()
    done = list(jobs.performed)
    if len(done) != 1 or done[0][0] != mark:
        raise Unexpected(f"The job {mark} of tenant {tenant} did {done}")
    require_own(tenant, done[0][1], "In a job")
    machine.ledgers[tenant].targets[shared_key(4)] = mark
    return True


def _forge(unit, job) -> None:
    """Another tenant's name on it: it is not performed, there or anywhere."""
    own, other = job.meta["tenant"], unit.free_tenant()
    job.meta["tenant"] = unit.stack.ids[other]
    if job.meta["tenant"] != own:
        jobs.performed.clear()
        unit.must_be_refused("a forged job", job.perform)
        if jobs.performed:
            raise NotRefused(f"A forged job was performed: {jobs.performed}")
    job.meta["tenant"] = own
