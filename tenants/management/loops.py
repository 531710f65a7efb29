"""Commands that go on, beside web and workers: ``dispatch``, ``send_mail``."""

import signal
import threading
from collections.abc import Callable

from tenants.binding import unbound
from tenants.management.base import TenancyCommand
from tenants.secrets import give_up_fleet_key


class LoopCommand(TenancyCommand):
    """
    Until SIGTERM or SIGINT, or with ``--once`` through what is due now. It begins as other units of work do: with
    nothing bound, and without the key of fleet commands.
    """

    def sweep(self) -> None:
        raise NotImplementedError

    def run(self, should_stop: Callable[[], bool]) -> None:
        raise NotImplementedError

    def add_arguments(self, parser):
        parser.add_argument("--once", action="store_true", help="send what is due now, and stop")

    def handle(self, once, **options):
        give_up_fleet_key()
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *ignored: stop.set())
        with unbound():
            if once:
                self.sweep()
            else:
                self.run(stop.is_set)
