"""Every request in its own plane, and nothing of it left behind."""

import asyncio
import io
from urllib.parse import unquote_to_bytes

import pytest
from django.contrib.auth import get_user_model
from django.core.handlers.wsgi import WSGIHandler
from django.test import AsyncClient, Client, RequestFactory
from django.urls import get_script_prefix, get_urlconf

from scans.models import ScanProfile
from tenants.accounts import logins
from tenants.context import tenant_context
from tenants.planes import _bound, current
from tests.tenants.forge import Forge
from tests.tenants.states import set_state

VIEWS = "tests.tenants.plane_views"
SECURITY_HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}
PLANES = {
    "/where/": "nothing",
    "/api/v1/where/": "tenant 'acme'",
    "/operator/where/": "control plane",
    "/t/acme/where/": "tenant 'acme'",
    "/t/globex/where/": "tenant 'globex'",
    "/t/nobody/where/": "nothing",
    "/readyz/where/": "nothing",
}


@pytest.fixture
def views(settings, acme, globex, alice):
    settings.ROOT_URLCONF = settings.WORKSPACE_URLCONF = VIEWS


@pytest.fixture
def bearer(alice, globex):
    return {"Authorization": f"Bearer {Forge(alice).genuine}"}


@pytest.fixture
def client(bearer):
    return Client(raise_request_exception=False, headers=bearer)


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert (current(), get_script_prefix(), get_urlconf()) == (None, "/", None)


def written():
    with tenant_context("acme"):
        return ScanProfile.objects.filter(name="written").count()


@pytest.mark.parametrize(("path", "plane"), PLANES.items())
@pytest.mark.parametrize("kind", ["where", "where-async"])
def test_a_path_says_which_plane_its_view_is_bound_to(views, client, path, plane, kind):
    answer = client.get(path.replace("where", kind))

    assert answer.json()["bound"] == plane
    assert answer.json()["here"] == (path if path.startswith("/t/") else "/where/")


@pytest.mark.parametrize(("path", "plane"), PLANES.items())
@pytest.mark.parametrize("kind", ["where", "where-async"])
def test_the_same_planes_under_asgi(views, bearer, path, plane, kind):
    async def ask():
        answer = await AsyncClient().get(path.replace("where", kind), headers=bearer)
        return answer.json()["bound"], current(), get_script_prefix(), get_urlconf()

    assert asyncio.run(ask()) == (plane, None, "/", None)


def test_concurrent_requests_keep_their_planes_and_prefixes_apart(views, bearer):
    async def ask(path):
        answer = await AsyncClient().get(path.replace("where", "where-async"), headers=bearer)
        return answer.json()["bound"], answer.json()["here"].rpartition("where/")[0]

    async def ask_all():
        return await asyncio.gather(*(ask(path) for path in list(PLANES) * 5))

    mounts = [path.rpartition("where/")[0] if path.startswith("/t/") else "/" for path in PLANES]
    assert asyncio.run(ask_all()) == list(zip(PLANES.values(), mounts, strict=True)) * 5


@pytest.mark.parametrize("view", ["crash", "write-and-crash", "leave-open", "nowhere", "write/500", "leave-bound"])
@pytest.mark.parametrize("mount", ["", "api/v1/", "operator/", "t/acme/", "t/nobody/"])
def test_the_binding_is_released_whatever_the_view_does(views, client, retired, mount, view):
    client.get(f"/{mount}{view}/")

    assert current() is None
    assert len(retired) == (view == "leave-bound" and mount in ("", "t/nobody/"))
    retired.clear()
    assert client.get("/where/").json()["bound"] == "nothing"


def test_the_binding_is_released_when_the_process_is_told_to_exit(views, client):
    with pytest.raises(SystemExit):
        client.post("/api/v1/exit/")

    assert current() is None


def test_a_workspace_leaves_no_prefix_and_no_urls_behind_when_nobody_closes_its_answer(installation, settings):
    environ = RequestFactory()._base_environ(PATH_INFO="/t/acme/login/", **{"wsgi.input": io.BytesIO()})
    try:
        answer = WSGIHandler()(environ, lambda status, headers: None)
        assert (get_script_prefix(), get_urlconf()) == ("/", settings.ROOT_URLCONF)
    finally:
        answer.close()


def test_a_request_begins_unbound_in_a_thread_that_was_left_bound(views, client, retired):
    with tenant_context("acme"):
        stale = current()
    token = _bound.set(stale)
    try:
        answers = [client.get(path).json()["bound"] for path in PLANES]
        assert current() is stale
    finally:
        _bound.reset(token)

    assert answers == list(PLANES.values())
    assert len(retired) == len(PLANES)
    retired.clear()


@pytest.mark.parametrize("kind", ["write", "write-async"])
@pytest.mark.parametrize(("status", "kept"), [(200, 1), (202, 1), (302, 1), (399, 1), (400, 0), (409, 0), (500, 0)])
def test_what_an_unsafe_request_wrote_is_kept_below_400_and_undone_from_there(
    views, client, bearer, kind, status, kept
):
    async def ask():
        return (await AsyncClient().post(f"/api/v1/{kind}/{status}/", headers=bearer)).status_code

    assert client.post(f"/api/v1/{kind}/{status}/").status_code == status
    assert written() == kept
    with tenant_context("acme"):
        ScanProfile.objects.filter(name="written").delete()
    assert asyncio.run(ask()) == status
    assert written() == kept


@pytest.mark.parametrize("view", ["write-and-crash", "write-and-crash-async"])
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_what_an_unsafe_request_wrote_before_it_crashed_is_undone(views, client, view, method):
    assert getattr(client, method)(f"/api/v1/{view}/").status_code == 500
    assert written() == 0


def test_a_safe_request_opens_no_transaction(views, client):
    client.get("/api/v1/write/500/")

    assert written() == 1


def test_an_answer_of_success_whose_transaction_was_undone_becomes_unavailable(views, client):
    answer = client.post("/api/v1/swallow/")

    assert (answer.status_code, answer.json()["code"], written()) == (503, "tenant_unavailable", 0)


def test_a_transaction_that_a_view_left_open_is_undone_and_the_next_request_works(views, client):
    client.get("/api/v1/leave-open/")

    assert written() == 0
    assert client.post("/api/v1/write/200/").status_code == 200
    assert written() == 1


@pytest.mark.parametrize(("error", "status"), [("database", 503), ("tenant", 403), ("bug", 404)])
@pytest.mark.parametrize("mount", ["", "api/v1/", "operator/", "t/acme/", "t/nobody/"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_an_error_of_tenancy_or_of_a_database_has_an_answer_of_its_own(views, client, mount, error, status, method):
    answer = getattr(client, method)(f"/{mount}fail/{error}/")

    assert answer.status_code == status
    assert ("Retry-After" in answer) == (status == 503)
    assert "gone away" not in answer.content.decode()


ODD_PATHS = ["/t", "/t/", "/t//", "/t///", "//", "//t/acme/", "/t/acme//", "/t/acme//where/", "/t/ACME/", "/t/Acme/",
    "/t/acme%2Fwhere", "/t%2Facme%2Fwhere/", "/t/acme%00/", "/t/%00/", "/t/acme/%00", "/t/acme/../globex/where/",
    "/t/../operator/where/", "/t/acme/..%2f..%2foperator/where/", "/t/%2e%2e/where/", "/t/./where/", "/t/ acme/",
    "/t/acme /where/", "/t/acme;x/where/", "/t/acme%0d%0aSet-Cookie:x=1/", "/t/%D0%B0cme/where/",
    "/t/acme\u200b/where/",
    "/t/\uff41cme/where/", "/t/" + "a" * 3000 + "/", "/t/admin/where/", "/t/operator/where/", "/t/-a/where/",
    "/t/a/where/",
    "/T/acme/where/", "/operator", "/OPERATOR/where/", "/operator%2fwhere/", "/operator/%00", "//operator/where/",
    "/readyz/", "/readyzx", "/api/v1", "/api/v1//where/", "/api/v1/%00", "/api//v1/where/",
    "/api/v1/token", "/api/v1/token/where/", "/%ff", "/t/%ff%fe/", "/\\t/acme/"]  # fmt: skip
MAY_BE_BOUND = {
    "/t/acme%2Fwhere": None,  # servers decode %2F before Django sees it
    "/t%2Facme%2Fwhere/": "tenant 'acme'",
    "/operator%2fwhere/": "control plane",
}


@pytest.mark.parametrize("path", ODD_PATHS)
def test_an_odd_path_gets_a_clear_answer_and_never_another_plane(views, client, path):
    as_servers_have_it = unquote_to_bytes(path).decode("latin-1")

    answer = client.get("/", PATH_INFO=as_servers_have_it)

    assert answer.status_code in (200, 301, 302, 400, 401, 404)
    if answer.status_code == 200:
        assert answer.json()["bound"] == MAY_BE_BOUND[path]
    if answer.status_code == 302:
        assert answer["Location"].startswith(("/t/", "/operator/"))
    assert "Set-Cookie" not in answer


@pytest.mark.parametrize("slug", ["acme", "nobody"])
def test_a_workspace_without_its_last_slash_leads_to_the_one_with_it(installation, slug):
    answer = Client().get(f"/t/{slug}")

    assert (answer.status_code, answer["Location"]) == (302, f"/t/{slug}/")


def test_headers_do_not_choose_a_tenant(views, client, bearer):
    tricks = {"X-Tenant": "globex", "X_Tenant": "globex", "X-Forwarded-Host": "globex", "X-Original-URL": "/t/globex/",
        "X-Rewrite-URL": "/operator/where/", "X-HTTP-Method-Override": "DELETE", "Cookie": "tenant=globex"}  # fmt: skip

    for path, plane in PLANES.items():
        assert client.get(path, headers=bearer | tricks).json()["bound"] == plane


@pytest.mark.parametrize(
    "value",
    ["", "Bearer", "Bearer ", "Basic {t}", "Token {t}", "{t}", "Bearer{t}", "Bearer\t{t}", "Bearer Bearer {t}",
     "Bearer {t} x", "Bearer {t}, Bearer {t}", "Bearer {t};", "Bearer " + "x" * 100_000, "Bearer \xff\xfe"],
)  # fmt: skip
def test_an_authorization_header_of_unusual_form_is_refused(views, bearer, value):
    genuine = bearer["Authorization"].removeprefix("Bearer ")

    answer = Client().get("/api/v1/where/", headers={"Authorization": value.replace("{t}", genuine)})

    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


def test_the_scheme_is_compared_without_case_as_http_says(views, bearer):
    answer = Client().get("/api/v1/where/", headers={"Authorization": bearer["Authorization"].replace("B", "b", 1)})

    assert answer.json()["bound"] == "tenant 'acme'"


def test_an_unknown_path_of_the_api_is_401_without_a_token_and_404_with_one(installation, client):
    assert Client().get("/api/v1/nothing/").status_code == 401
    assert client.get("/api/v1/nothing/").status_code == 404


ANY_PATHS = ["/healthz", "/readyz", "/api/v1/me/", "/api/v1/nothing/", "/nothing", "/operator/", "/t/acme/",
    "/t/acme/crash/", "/t/nobody/login/", "/api/v1/crash/", "/static/tenants/console.css",
    "/static/nothing.css"]  # fmt: skip


@pytest.mark.parametrize("path", ANY_PATHS)
def test_every_answer_carries_the_security_headers_and_a_request_id(views, settings, path):
    answer = Client(raise_request_exception=False).get(path, headers={"X-Request-ID": "given-by-the-client.1"})
    answer.close()

    assert {name: answer[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert answer["X-Request-ID"] == "given-by-the-client.1"


@pytest.mark.parametrize("state", ["suspended", "maintenance"])
def test_the_middlewares_own_errors_carry_them_too(views, client, state):
    set_state("acme", state)

    for path in ("/api/v1/where/", "/t/acme/where/" if state == "maintenance" else "/api/v1/where/"):
        answer = client.get(path)
        assert answer.status_code == {"suspended": 403, "maintenance": 503}[state]
        assert {name: answer[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert len(answer["X-Request-ID"]) == 32


def test_a_member_is_not_read_before_somebody_asks(views, client, alice, monkeypatch):
    monkeypatch.setattr(logins, "FRESH_SECONDS", 60.0)
    assert client.get("/api/v1/where/").status_code == 200  # that the log-in stands is known from here on
    with tenant_context("acme"):
        get_user_model().objects.all().delete()

    assert client.get("/api/v1/where/").json()["bound"] == "tenant 'acme'"
