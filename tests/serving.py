"""A web server and commands as processes of their own, on the installation that a test uses."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from urllib.parse import quote

from django.conf import settings

from config.env import PROJECT


def environment_of(installation) -> dict[str, str]:
    keys = {f"{source.variable}_FILE": str(source.path) for source in settings.BULKHEAD_KEYS.values()}
    environment = {
        "BULKHEAD_HOME": str(installation.home),
        "REDIS_URL": settings.RQ_QUEUES["default"]["URL"],
        "PYTHONUNBUFFERED": "1",
    }
    control = settings.DATABASES["control"]
    if installation.engine == "mysql":
        account = f"{control['USER']}:{quote(str(control['PASSWORD']), safe='')}"
        environment["DATABASE_URL"] = f"mysql://{account}@{control['HOST']}:{control['PORT']}/{control['NAME']}"
    return os.environ | environment | keys


def run(installation, *command: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *command],
        cwd=PROJECT, env=environment_of(installation), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def manage(installation, *arguments: str) -> None:
    done = run(installation, "manage.py", *arguments)
    assert done.returncode == 0, done.stderr


class ServedSocket:
    """It listens before its server does, so that the first request waits for the server and needs no polling."""

    def __enter__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.fd, self.port = self.socket.fileno(), self.socket.getsockname()[1]
        return self

    def __exit__(self, *error):
        self.socket.close()


class WebServer:
    """Gunicorn as the Procfile has it, with two workers: each has to hear of a change by itself."""

    def __init__(self, installation, **environment: str):
        self.environment = environment_of(installation) | environment
        # It listens before the server does, so that the first request waits for the server and needs no polling.
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]

    def __enter__(self):
        fd = self.socket.fileno()
        self.log = open(os.path.join(self.environment["BULKHEAD_HOME"], "web.log"), "w+")
        command = ["-m", "gunicorn", "config.wsgi", "--bind", f"fd://{fd}", "--workers", "2", "--threads", "8"]
        self.process = subprocess.Popen(
            [sys.executable, *command, "--no-control-socket"],
            cwd=PROJECT, env=self.environment, pass_fds=[fd], stdout=self.log, stderr=self.log,
        )  # fmt: skip
        return self

    def __exit__(self, *error):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.socket.close()
        self.log.close()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def ask(self, method, path, body=None, token=None):
        """Status and JSON of one request on a connection of its own."""
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, json.dumps(body) if body else None, headers)
            response = connection.getresponse()
            return response.status, json.loads(response.read() or "null")
        finally:
            connection.close()

    def status(self, path, host="127.0.0.1"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path, headers={"Host": host})
            return connection.getresponse().status
        finally:
            connection.close()

    def log_in(self, tenant, username, password):
        return self.ask("POST", "/api/v1/token/", {"tenant": tenant, "username": username, "password": password})


def seconds_until_always(expected, ask, watched_for=2.6, pause=0.02) -> float:
    """Asks again and again; how long after the start the last other answer came."""
    started_at, last_other = time.monotonic(), 0.0
    while (now := time.monotonic() - started_at) < watched_for:
        if ask() != expected:
            last_other = now
        time.sleep(pause)
    return last_other
