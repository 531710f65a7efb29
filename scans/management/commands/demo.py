import os
import re
import secrets
import shutil
import socket
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from django.conf import settings
from django.core.management.base import CommandError

from scans.demo.client import Client, wait_until_serving
from scans.demo.processes import Processes, end_on_signals
from scans.demo.story import SCANS, launch, show_findings, show_refusal, watch, write_reports
from tenants.embedded import MariaDB, Redis, ServiceUnavailable
from tenants.management.base import TenancyCommand

MEMBERS = {"acme": "alice", "globex": "gita"}
# Written into acme's own session: what a stolen runtime account could try, past every check of ours.
FOREIGN_SQL = """
from django.db import connection
for sql in ("SELECT COUNT(*) FROM `{foreign}`.scans_finding", "USE `{foreign}`", "SELECT COUNT(*) FROM scans_finding"):
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            print(sql, "->", cursor.fetchall())
    except Exception as error:
        print(sql, "->", *error.args)
"""


class Command(TenancyCommand):
    help = "Two customers, three targets on loopback, real scans, and what each customer gets to see."
    example = "demo --engine mysql"

    def add_arguments(self, parser):
        parser.add_argument("--engine", choices=["sqlite", "mysql"], default="sqlite", help="of the tenants' databases")
        parser.add_argument("--port", type=int, default=0, help="of the web server; a free one when left out")

    def handle(self, engine, port, **options):
        started_at = time.monotonic()
        home = Path(settings.BULKHEAD_HOME) / "demo"
        shutil.rmtree(home, ignore_errors=True)
        home.mkdir(mode=0o700, parents=True)
        passwords = {slug: secrets.token_urlsafe(12) for slug in (*MEMBERS, "operator")}
        base = f"http://127.0.0.1:{port or _free_port()}"
        try:
            with ExitStack() as stack:
                end_on_signals(stack)
                processes = self._start(stack, home, engine, base, passwords)
                self._tell(processes, home, engine, base, passwords)
                self._say(f"\nDone in {time.monotonic() - started_at:.0f} s.")
                if sys.stdout.isatty():
                    self._serve(processes, base, passwords)
        except ServiceUnavailable as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            self._say("\nStopped.")

    def _start(self, stack: ExitStack, home: Path, engine: str, base: str, passwords: dict[str, str]) -> Processes:
        """Redis, the tenants and their members, the web server, a dispatcher and two workers."""
        self._say("Starting")
        redis = stack.enter_context(Redis(home))
        processes = Processes(home, _environment(home, redis.url), self._say)
        server = []
        if engine == "mysql":
            maria = stack.enter_context(MariaDB(home / "mariadb"))
            server = ["--server", "maria"]
        stack.callback(processes.stop)
        manage = processes.manage
        manage("control database made", "migrate", "--verbosity", "0")
        if engine == "mysql":
            where = ["--host", maria.host, "--port", str(maria.port), "--user", maria.user]
            manage("MariaDB added", "add_database_server", "maria", *where, "--password-stdin", stdin=maria.password)
        for slug, member in MEMBERS.items():
            manage(f"tenant {slug} made", "create_tenant", slug, "--name", slug.title(), *server)
            member_argv = ["create_member", slug, member, "--role", "owner", "--password-stdin"]
            manage(f"{member} is its owner", *member_argv, stdin=passwords[slug])
        processes.environment["DJANGO_SUPERUSER_PASSWORD"] = passwords["operator"]
        manage("operator oscar made", "createsuperuser", "--noinput", "--username", "oscar")
        del processes.environment["DJANGO_SUPERUSER_PASSWORD"]
        python = sys.executable
        bind = base.removeprefix("http://")
        web = ["-m", "gunicorn", "config.wsgi", "--bind", bind, "--threads", "8", "--no-control-socket"]
        processes.start("web", python, *web)
        processes.start("dispatch", python, "manage.py", "dispatch")
        for number in (1, 2):
            processes.start(f"worker-{number}", python, "manage.py", "worker")
        wait_until_serving(base, 20, self._say, processes.require_alive)
        self._say(f"  serving on {base}")
        return processes

    def _tell(self, processes: Processes, home: Path, engine: str, base: str, passwords: dict[str, str]) -> None:
        launched = []
        for slug, names in SCANS.items():
            client = Client(base)
            client.log_in(slug, MEMBERS[slug], passwords[slug])
            self._say(f"\n{MEMBERS[slug]} of {slug} logs in and asks for scans")
            for name in names:
                launched.append(launch(client, slug, processes.start_target(name)))
                self._say(f"  {launched[-1]} is accepted")
        self._say("\nScanning")
        watch(launched, self._say, processes.require_alive)
        comparisons = [show_findings(one, self._say) for one in launched]
        show_refusal(launched[0], launched[-1], self._say)
        if engine == "mysql":
            self._show_server_refusal(processes)
        self._say("\nThe contrast")
        self._say(processes.manage("contrast shown below", "contrast"))
        self._say("Reports")
        for path in write_reports(launched, home):
            self._say(f"  {path}")
        if any(one.missed or one.false for one in comparisons):
            raise CommandError("What was found is not what was planted: see above.")

    def _show_server_refusal(self, processes: Processes) -> None:
        """The database server's own word, for what no Python of ours stands in the way of."""
        which = "from django.db import connection; print(connection.settings_dict['NAME'])"
        foreign = processes.manage("globex's database looked up", "tenant_command", "globex", "shell", "-c", which)
        code = FOREIGN_SQL.format(foreign=foreign.split()[-1])
        answers = processes.manage("acme's account asks for it", "tenant_command", "acme", "shell", "-c", code)
        self._say("\nacme's database account, with globex's data in mind, as the server answers it")
        self._say(re.sub(r"(?m)^", "  ", answers.strip()))
        for code in ("1142", "1044"):
            if code not in answers:
                raise CommandError(f"The server did not refuse with {code}.")

    def _serve(self, processes: Processes, base: str, passwords: dict[str, str]) -> None:
        self._say("\nStill serving. Ctrl-C stops everything.")
        for slug, member in MEMBERS.items():
            self._say(f"  {base}/t/{slug}/  {member}  {passwords[slug]}")
        self._say(f"  {base}/operator/  oscar  {passwords['operator']}")
        self._say(f"  {base}/api/docs/")
        while True:
            processes.require_alive()
            time.sleep(1)

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def _environment(home: Path, redis_url: str) -> dict[str, str]:
    """An installation of its own: nothing of this one's configuration reaches it."""
    own = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("BULKHEAD_", "DJANGO_")) and name.removesuffix("_FILE") not in own
    }
    return kept | {
        "BULKHEAD_HOME": str(home),
        "REDIS_URL": redis_url,
        "BULKHEAD_ALLOW_LOOPBACK_TARGETS": "true",
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "PYTHONUNBUFFERED": "1",
    }


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
