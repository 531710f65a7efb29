"""What the environment says, and what it says wrongly: all of it at once, each with what to do."""

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.env import ConfigurationError, read_environment
from tests.environment import HOME

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "canary-pa55word"


@pytest.fixture
def environment(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith("BULKHEAD_") or name.removesuffix("_FILE") in ("DATABASE_URL", "REDIS_URL", "SECRET_KEY"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("BULKHEAD_HOME", str(tmp_path))
    return monkeypatch


def faults():
    with pytest.raises(ConfigurationError) as caught:
        read_environment()
    return caught.value.faults


def test_nothing_set_is_the_embedded_default_and_writes_no_file(environment, tmp_path):
    found = read_environment()

    assert found.control_database["NAME"] == str(tmp_path / "control.sqlite3")
    assert found.redis_url.startswith("unix://") and not found.debug and not found.allow_loopback_targets
    assert (found.trusted_proxies, found.parallel_hashes, found.threads) == (0, 2, 16)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("variables", "sentence"),
    [
        ({"DATABASE_URL": f"postgres://u:{PASSWORD}@h/n"}, "DATABASE_URL: write it as mysql://"),
        ({"DATABASE_URL": f"mysql://u:{PASSWORD}@h:notaport/n"}, "DATABASE_URL: write it as mysql://"),
        ({"DATABASE_URL": "mysql://u@h:3306/"}, "DATABASE_URL: write it as mysql://"),
        ({"REDIS_URL": "http://localhost"}, "REDIS_URL: write it as redis://"),
        ({"SECRET_KEY": "short"}, "SECRET_KEY: is shorter than 32"),
        ({"SECRET_KEY_FILE": "/no/such/file"}, "SECRET_KEY_FILE: /no/such/file cannot be read"),
        ({"BULKHEAD_RUNTIME_KEY": "not base64"}, "BULKHEAD_RUNTIME_KEY: is not 32 bytes in base64"),
        ({"BULKHEAD_FLEET_KEY": base64.b64encode(b"x" * 31).decode()}, "BULKHEAD_FLEET_KEY: is not 32 bytes"),
        ({"BULKHEAD_FLEET_KEY_FILE": "/no/such/file"}, "BULKHEAD_FLEET_KEY_FILE: /no/such/file does not exist"),
        ({"BULKHEAD_DEBUG": "perhaps"}, "BULKHEAD_DEBUG"),
        ({"BULKHEAD_LEASE_SECONDS": "0"}, "BULKHEAD_LEASE_SECONDS"),
        ({"BULKHEAD_SWEEP_SECONDS": "soon"}, "BULKHEAD_SWEEP_SECONDS"),
        ({"BULKHEAD_TRUSTED_PROXIES": "-1"}, "BULKHEAD_TRUSTED_PROXIES"),
        ({"BULKHEAD_PARALLEL_HASHES": "0"}, "BULKHEAD_PARALLEL_HASHES"),
        ({"BULKHEAD_METRICS_TOKEN": "too-short-a-token"}, "BULKHEAD_METRICS_TOKEN: write 32 visible"),
        ({"BULKHEAD_METRICS_TOKEN": "long enough, but with blanks in between"}, "BULKHEAD_METRICS_TOKEN: write 32"),
        ({"BULKHEAD_MAIL_URL": f"http://u:{PASSWORD}@h"}, "BULKHEAD_MAIL_URL: write it as smtps://"),
        ({"BULKHEAD_MAIL_URL": f"smtps://u:{PASSWORD}@h:port"}, "BULKHEAD_MAIL_URL: write it as smtps://"),
        ({"BULKHEAD_MAIL_URL": f"smtps://u:{PASSWORD}@"}, "BULKHEAD_MAIL_URL: write it as smtps://"),
        ({"BULKHEAD_MAIL_URL": f"smtps://u:{PASSWORD}@h/x"}, "BULKHEAD_MAIL_URL: write it as smtps://"),
        (
            {"BULKHEAD_MAIL_URL": f"smtp://u:{PASSWORD}@h"},
            "BULKHEAD_MAIL_URL: smtp:// would send the password in clear",
        ),
        ({"BULKHEAD_PUBLIC_URL": "bulkhead.example"}, "BULKHEAD_PUBLIC_URL: write where members find this"),
        ({"BULKHEAD_PUBLIC_URL": "https://b.example/x?y#z"}, "BULKHEAD_PUBLIC_URL: write where members find this"),
        ({"BULKHEAD_PUBLIC_URL": "https://b.example\n"}, "BULKHEAD_PUBLIC_URL: write where members find this"),
        (
            {
                "BULKHEAD_HTTPS": "true",
                "BULKHEAD_ALLOWED_HOSTS": ".b.example",
                "BULKHEAD_PUBLIC_URL": "http://b.example",
            },
            "BULKHEAD_PUBLIC_URL: BULKHEAD_HTTPS is set",
        ),
        (
            {"BULKHEAD_HTTPS": "true", "BULKHEAD_ALLOWED_HOSTS": "*"},
            "BULKHEAD_PUBLIC_URL: write where members find this",
        ),
    ],
)
def test_a_fault_is_one_sentence_that_names_the_variable_and_no_secret(environment, variables, sentence):
    for name, value in variables.items():
        environment.setenv(name, value)

    (fault,) = faults()

    assert fault.startswith(sentence) and PASSWORD not in fault


def test_all_faults_are_reported_at_once(environment):
    environment.setenv("REDIS_URL", "nonsense")
    environment.setenv("DATABASE_URL", "nonsense")
    environment.setenv("BULKHEAD_LEASE_SECONDS", "1")
    environment.setenv("SECRET_KEY", "short")

    assert len(faults()) == 4


def test_a_key_file_that_others_may_read_is_refused(environment, tmp_path):
    path = tmp_path / "key"
    path.write_bytes(base64.b64encode(b"k" * 32))
    path.chmod(0o640)
    environment.setenv("BULKHEAD_RUNTIME_KEY_FILE", str(path))

    (fault,) = faults()

    assert "chmod 600" in fault


def test_a_value_comes_from_the_file_that_its_name_with_file_names(environment, tmp_path):
    path = tmp_path / "url"
    path.write_text(f"mysql://user:{PASSWORD}@db.internal:3307/control\n")
    environment.setenv("DATABASE_URL_FILE", str(path))

    database = read_environment().control_database

    assert (database["HOST"], database["PORT"], database["PASSWORD"]) == ("db.internal", 3307, PASSWORD)
    assert PASSWORD not in repr(database)


MAIL_SERVERS = {
    "smtps://u:p@h": {"port": 465, "use_ssl": True},
    "smtp+tls://u:p@h": {"port": 587, "use_tls": True},
    "smtps://u:p@h:2465": {"port": 2465, "use_ssl": True},
}


@pytest.mark.parametrize(("url", "expected"), MAIL_SERVERS.items(), ids=MAIL_SERVERS)
def test_a_mail_servers_url_says_how_it_is_spoken_to(environment, tmp_path, url, expected):
    path = tmp_path / "url"
    path.write_text(url.replace("p@", "p%40ss@"))
    environment.setenv("BULKHEAD_MAIL_URL_FILE", str(path))

    mailer = read_environment().mailer

    account = {"host": "h", "username": "u", "password": "p@ss", "timeout": 10}
    assert mailer == {
        "BACKEND": "django.core.mail.backends.smtp.EmailBackend", "OPTIONS": account | expected,
    }  # fmt: skip
    assert "p@ss" not in repr(mailer)


def test_without_one_mails_become_files(environment):
    assert read_environment().mailer == {"BACKEND": "tenants.mail_files.FileBackend"}


PUBLIC = {
    "": ({}, "http://localhost:8000"),
    "https": ({"BULKHEAD_HTTPS": "true", "BULKHEAD_ALLOWED_HOSTS": "a.example,b.example"}, "https://a.example"),
    "set": ({"BULKHEAD_PUBLIC_URL": "https://[::1]:8443", "BULKHEAD_HTTPS": "true"}, "https://[::1]:8443"),
}


@pytest.mark.parametrize(("variables", "url"), PUBLIC.values(), ids=PUBLIC)
def test_links_in_mails_begin_with_what_is_configured(environment, variables, url):
    for name, value in variables.items():
        environment.setenv(name, value)

    assert read_environment().public_url == url


def test_a_faulty_configuration_stops_manage_py_with_the_whole_list():
    environment = {"PATH": os.environ["PATH"], "BULKHEAD_HOME": str(HOME / "none"), "REDIS_URL": "x", "SECRET_KEY": "y"}
    done = subprocess.run(
        [sys.executable, "manage.py", "list_tenants"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "REDIS_URL" in done.stderr and "SECRET_KEY" in done.stderr


def test_a_command_before_the_first_migrate_says_what_to_do(tmp_path):
    environment = {"PATH": os.environ["PATH"], "BULKHEAD_HOME": str(tmp_path / "new")}
    done = subprocess.run(
        [sys.executable, "manage.py", "list_tenants"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1 and "manage.py migrate" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "new").exists()
