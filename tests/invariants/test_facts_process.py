"""What a process keeps for all, or does beside requests: Django's assumptions that no other page of tests has."""

import functools
import json
import socket
import urllib.request
from textwrap import dedent
from urllib.error import HTTPError, URLError

import pytest

from scans.models import Target
from tenants.context import tenant_context
from tenants.exceptions import NoTenantError, WrongTenantError
from tests.scans.rows import make_target
from tests.scans.scanning import start, wait_until
from tests.serving import run


@functools.lru_cache
def target_of(key):
    return Target.objects.get(pk=key)


def test_an_object_that_a_process_wide_cache_keeps_by_its_key_alone_is_of_no_use_in_another_tenant(alice, globex):
    """Its plain values are plain Python: what can be refused is to do anything with it."""
    with tenant_context("acme"):
        key = make_target(alice, name="acme's").pk
        assert target_of(key).name == "acme's"
    uses = [
        lambda kept: kept.refresh_from_db(),
        lambda kept: kept.save(update_fields=["name"]),
        lambda kept: kept.delete(),
        lambda kept: kept.created_by,
        lambda kept: list(kept.scans.all()),
    ]
    for use in uses:
        with tenant_context("globex"), pytest.raises(WrongTenantError):
            use(target_of(key))
        with pytest.raises(NoTenantError):
            use(target_of(key))


@pytest.mark.parametrize("options", [["--noreload", "--nothreading"], ["--noreload"], []], ids=" ".join)
def test_runserver_checks_migrations_in_control_and_serves_each_request_in_its_own_plane(acme, alice, options):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = start("runserver", f"127.0.0.1:{port}", *options)
    try:
        wait_until(lambda: answer(port, "/healthz"))
        assert answer(port, "/readyz")[0] == 200
        # In control it would find an operator's table, and no member: log-in is of the tenant that the body names.
        login = {"tenant": "acme", "username": "alice", "password": "correct horse battery staple"}
        status, body = answer(port, "/api/v1/token/", login)
        assert status == 200
        status, body = answer(port, "/api/v1/me/", token=body["access"])
        assert (status, body["tenant"]) == (200, "acme")
    finally:
        process.terminate()
        output = process.communicate(timeout=20)[0]
    assert "Traceback" not in output and "NoTenantError" not in output, output


def answer(port, path, body=None, token=""):
    """Status and JSON; ``None`` while nobody listens."""
    content = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{port}{path}", content, headers), timeout=10
        ) as response:
            text = response.read()
            return response.status, json.loads(text) if text.startswith(b"{") else text
    except HTTPError as error:
        return error.code, error.read()
    except URLError:
        return None


def test_many_requests_under_asgi_leave_no_descriptor(acme, alice, installation):
    """Threads come and go there; connections that outlive a request were left open in them, 152 after 100 requests."""
    code = """
        import asyncio, os
        from config.asgi import application
        from tenants.context import tenant_context
        from tenants.accounts.models import User
        from tenants.connections import close_tenant_connections
        from tenants.tokens import TenantRefreshToken

        with tenant_context("acme"):
            token = str(TenantRefreshToken.for_user(User.objects.get(username="alice")).access_token)
        close_tenant_connections()
        headers = [(b"authorization", f"Bearer {token}".encode()), (b"host", b"localhost")]

        async def ask():
            scope = {"type": "http", "method": "GET", "path": "/api/v1/me/", "query_string": b"", "headers": headers}
            answers, asked = [], []

            async def receive():
                if not asked:
                    asked.append(True)
                    return {"type": "http.request"}
                await asyncio.sleep(3600)

            async def send(message):
                answers.append(message)

            await application(scope | {"asgi": {"version": "3.0"}, "http_version": "1.1"}, receive, send)
            assert answers[0]["status"] == 200, answers

        async def ask_many(rounds):
            for _ in range(rounds):
                await asyncio.gather(*(ask() for _ in range(10)))

        async def main():
            await ask_many(1)
            before = len(os.listdir("/proc/self/fd"))
            await ask_many(20)
            print(len(os.listdir("/proc/self/fd")) - before)

        asyncio.run(main())
    """
    done = run(installation, "-c", dedent(code))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) <= 0
