from scans.dispatch import run_dispatcher, sweep
from tenants.management.loops import LoopCommand


class Command(LoopCommand):
    help = "Hand the tenants' queued scans to the workers, one of each tenant at a time. Any number may run."
    example = "dispatch --once"
    sweep = staticmethod(sweep)
    run = staticmethod(run_dispatcher)
