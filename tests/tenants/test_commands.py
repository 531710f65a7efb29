"""The commands, by a table that is generated from what is there."""

import io
import json

import pytest
from django.core.management import call_command, get_commands, load_command_class
from django.core.management.base import CommandError

from scans.models import ScanProfile
from tenants.accounts.models import User
from tenants.audit.models import AuditEvent
from tenants.context import control_plane, tenant_context
from tenants.exceptions import TenantNotFoundError
from tenants.management.base import TenancyCommand
from tenants.models import DatabaseServer, LifecycleEvent, RegistryRevision, Tenant, TenantCredential, TenantKey
from tests.installation import PASSWORD

OURS = sorted(name for name, app in get_commands().items() if app in ("tenants", "scans"))
OVERRIDDEN = {"flush", "migrate", "runserver"}
WITH_JSON = {"list_tenants"}
# What each refuses, in words that its one sentence contains.
REFUSALS = {
    "create_tenant": [
        (["Acme"], "is no slug"),
        (["acme"], "exists already"),
        (["new", "--server", "no"], "no database server"),
    ],
    "suspend_tenant": [(["nobody"], "no tenant 'nobody'")],
    "rotate_tenant_keys": [(["nobody"], "no tenant 'nobody'"), (["nobody", "--emergency"], "no tenant")],
    "resume_tenant": [(["nobody"], "no tenant 'nobody'"), (["acme"], "is active")],
    "migrate_tenants": [(["nobody"], "1 of 1 not migrated")],
    "tenant_command": [(["nobody", "check"], "no tenant"), (["acme", "nonsense"], "Unknown command")],
    "all_tenants": [(["nonsense"], "failed in 2 of 2")],
    "create_member": [
        (["nobody", "bob", "--password-stdin"], "no tenant"),
        (["acme", "alice", "--password-stdin"], "already exists"),
        (["acme", "b b", "--password-stdin"], "valid username"),
        (["acme", "bob", "--password-stdin"], "too short"),
    ],
    "remove_second_factor": [(["nobody"], "no account 'nobody'"), (["oscar"], "oscar has no second factor")],
    "request_support_access": [
        (["nobody", "--operator", "oscar", "--reason", "To see why"], "no tenant 'nobody'"),
        (["acme", "--operator", "nobody", "--reason", "To see why"], "no operator 'nobody'"),
        (["acme", "--operator", "oscar", "--reason", "because"], "3 words"),
        (["acme", "--operator", "oscar", "--reason", "To see why", "--hours", "9"], "1 to 8 hours"),
    ],
    "limit_tenant": [
        (["nobody", "weight=1"], "no tenant 'nobody'"),
        (["acme", "nonsense=1"], "is no limit"),
        (["acme", "weight"], "is no limit"),
        (["acme", "weight=0"], "from 1 to 100"),
        (["acme", "weight=2", "running_scans=-1"], "from 0 to 1000"),
    ],
    "halt_scans": [(["--tenant", "nobody"], "no tenant 'nobody'"), (["--engine", "nothing"], "invalid choice")],
    "resume_scans": [(["--tenant", "nobody"], "no tenant 'nobody'")],
    "check_isolation": [(["--textfile", "/no/such/directory/bulkhead.prom"], "no directory")],
    "add_database_server": [
        (["Bad Name", "--host", "127.0.0.1", "--user", "x", "--password-stdin"], "is no slug"),
        (["gone", "--host", "127.0.0.1", "--port", "1", "--user", "x", "--password-stdin"], "cannot be used"),
    ],
}


def run(*argv, stdin="short\n"):
    """As ``manage.py`` does, bound to control; what was written."""
    out, err = io.StringIO(), io.StringIO()
    with control_plane(), pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.StringIO(stdin))
        call_command(*argv, stdout=out, stderr=err)
    return out.getvalue() + err.getvalue()


def everything():
    """What a refused command must not change."""
    with control_plane():
        rows = [
            sorted(map(str, model.objects.values_list()))
            for model in (Tenant, DatabaseServer, TenantCredential, TenantKey, LifecycleEvent, RegistryRevision, User)
        ]
    for slug in ("acme", "globex"):
        with tenant_context(slug):
            rows.append(sorted(map(str, User.objects.values_list("username", "role"))))
    return rows


@pytest.mark.parametrize("name", sorted(set(OURS) - OVERRIDDEN))
def test_each_command_has_help_with_an_example_that_its_own_parser_accepts(name):
    command = load_command_class(get_commands()[name], name)
    parser = command.create_parser("manage.py", name)

    assert isinstance(command, TenancyCommand) and command.help.endswith(".")
    words = command.example.replace('"', "").split()
    assert words[0] == name and f"Example: ./manage.py {command.example}" in " ".join(parser.format_help().split())
    if name not in ("create_tenant", "request_support_access"):  # their examples have quoted words
        parser.parse_args(words[1:])


@pytest.mark.parametrize(
    ("argv", "sentence"), [([name, *args], words) for name, cases in REFUSALS.items() for args, words in cases]
)
def test_a_refusal_is_one_sentence_and_changes_nothing(acme, globex, argv, sentence):
    before = everything()

    with pytest.raises(CommandError, match=sentence):
        run(*argv)

    assert everything() == before


@pytest.mark.parametrize("name", sorted(WITH_JSON))
def test_json_is_json(acme, globex, name):
    rows = json.loads(run(name, "--json"))

    assert [row["slug"] for row in rows] == ["acme", "globex"] and rows[0]["state"] == "active"


def test_a_new_tenant_serves_at_once(installation):
    assert "initech is active" in run("create_tenant", "initech", "--name", "Initech")

    with tenant_context("initech") as tenant:
        assert tenant.name == "Initech" and not User.objects.exists()


def test_limits_are_set_taken_back_and_recorded(acme, globex):
    assert run("limit_tenant", "acme", "weight=3", "running_scans=2") == "running_scans=2\nweight=3\n"
    with tenant_context("acme") as tenant:
        assert dict(tenant.limits) == {"weight": 3, "running_scans": 2}
    with tenant_context("globex") as tenant:
        assert dict(tenant.limits) == {}

    assert run("limit_tenant", "acme", "weight=") == "running_scans=2\n"
    with control_plane():
        event = AuditEvent.objects.filter(action="limited").latest("number")
        assert event.changes == {"old": {"running_scans": 2, "weight": 3}, "new": {"running_scans": 2}}


def test_the_table_of_tenants_says_whether_each_database_opens(acme, globex):
    lines = run("list_tenants", "--check").splitlines()

    assert lines[0].endswith("  database")
    assert [line.split()[0] + " " + line.split()[-1] for line in lines[1:]] == ["acme ok", "globex ok"]


def test_suspend_and_resume(acme):
    assert run("suspend_tenant", "acme") == "acme is suspended.\n"
    assert run("resume_tenant", "acme") == "acme is active.\n"


def test_a_member_is_made_with_the_role_and_the_password_given(acme):
    run("create_member", "acme", "bob", "--role", "owner", "--password-stdin", stdin=PASSWORD + "\n")

    with tenant_context("acme"):
        bob = User.objects.get(username="bob")
        assert bob.role == "owner" and bob.check_password(PASSWORD)


def test_tenant_command_runs_inside_the_tenant(acme, globex):
    with tenant_context("acme"):
        ScanProfile.objects.create(name="acme-only", engines={"ports": {}})

    assert "acme-only" in run("tenant_command", "acme", "dumpdata", "scans.ScanProfile")
    assert "acme-only" not in run("tenant_command", "globex", "dumpdata", "scans.ScanProfile")


def test_one_tenants_failure_does_not_stop_the_others(acme, globex):
    with control_plane():
        RegistryRevision.publish([acme], state=Tenant.State.MAINTENANCE)

    with pytest.raises(CommandError, match="1 of 2 not migrated. .* migrate_tenants acme"):
        run("migrate_tenants", "acme", "globex")
    out = run("migrate_tenants", "globex")

    assert "[1/1] globex" in out and "up to date" in out


def test_a_creation_cut_off_is_seen_by_list_tenants_alone_and_completed_by_the_same_command(installation, monkeypatch):
    class Cut(BaseException):
        pass

    def cut(*args):
        raise Cut

    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr("tenants.services.migrate_bound_database", cut)
        run("create_tenant", "initech")

    assert {row["slug"]: row["state"] for row in json.loads(run("list_tenants", "--json"))}["initech"] == "provisioning"
    with pytest.raises(TenantNotFoundError), tenant_context("initech"):
        pass
    assert "initech" not in run("all_tenants", "check")
    assert "initech is active" in run("create_tenant", "initech")
    with tenant_context("initech"):
        assert User.objects.count() == 0
