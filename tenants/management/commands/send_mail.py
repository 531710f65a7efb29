import signal
import threading

from tenants.accounts.sending import run_sender, sweep
from tenants.binding import unbound
from tenants.management.base import TenancyCommand
from tenants.secrets import give_up_fleet_key


class Command(TenancyCommand):
    help = "Send the mails that are waiting: invitations and links for a new password. Any number may run."
    example = "send_mail --once"

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
                run_sender(stop.is_set)
