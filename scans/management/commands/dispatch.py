import signal
import threading

from scans.dispatch import run_dispatcher, sweep
from tenants.binding import unbound
from tenants.management.base import TenancyCommand
from tenants.secrets import give_up_fleet_key


class Command(TenancyCommand):
    help = "Hand the tenants' queued scans to the workers, one of each tenant at a time. Any number may run."
    example = "dispatch --once"

    def add_arguments(self, parser):
        parser.add_argument("--once", action="store_true", help="send what is due now, and stop")

    def handle(self, once, **options):
        give_up_fleet_key()
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *ignored: stop.set())
        with unbound():
            if once:
                sweep()
            else:
                run_dispatcher(stop.is_set)
