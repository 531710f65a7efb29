"""A server that runs, and a command of another process that changes a tenant's state."""

from django.contrib.auth import get_user_model

from tenants.context import tenant_context
from tests.installation import PASSWORD
from tests.serving import WebServer, manage, seconds_until_always

WITHIN_SECONDS = 2.0


def test_suspending_and_resuming_take_effect_on_a_running_server_within_two_seconds(installation, acme, globex):
    with WebServer(installation) as web:
        status, tokens = web.log_in("acme", "alice", PASSWORD)
        _, others = web.log_in("globex", "mallory", PASSWORD)

        def me():
            return web.ask("GET", "/api/v1/me/", token=tokens["access"])[0]

        def log_in(password):
            return lambda: web.log_in("acme", "alice", password)[0]

        assert (status, me()) == (200, 200)

        manage(installation, "suspend_tenant", "acme")
        assert seconds_until_always(403, me) < WITHIN_SECONDS
        assert (log_in("wrong")(), log_in(PASSWORD)()) == (401, 403)
        assert web.ask("GET", "/api/v1/me/", token=others["access"])[0] == 200

        manage(installation, "resume_tenant", "acme")
        assert seconds_until_always(200, me) < WITHIN_SECONDS
        assert (log_in("wrong")(), log_in(PASSWORD)()) == (401, 200)

        manage(installation, "suspend_tenant", "acme")
        assert seconds_until_always(403, log_in(PASSWORD), pause=0.1) < WITHIN_SECONDS

        manage(installation, "resume_tenant", "acme")
        assert seconds_until_always(200, log_in(PASSWORD), pause=0.1) < WITHIN_SECONDS


def test_a_tenant_made_by_another_process_is_served_by_a_running_server_within_two_seconds(installation, acme):
    with WebServer(installation) as web:
        before = web.log_in("initech", "peter", PASSWORD)[0]

        manage(installation, "create_tenant", "initech")
        with tenant_context("initech"):
            get_user_model().objects.create_user("peter", PASSWORD)

        assert before == 401
        assert (
            seconds_until_always(200, lambda: web.log_in("initech", "peter", PASSWORD)[0], pause=0.1) < WITHIN_SECONDS
        )
