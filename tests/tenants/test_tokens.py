"""What opens a tenant's data, and what only looks as if it did."""

import uuid

import pytest
from rest_framework.test import APIClient
from rest_framework_simplejwt.exceptions import TokenBackendError

from tenants.context import control_plane, tenant_context
from tenants.exceptions import InvalidTokenError, NoTenantError, WrongTenantError
from tenants.models import TenantKey
from tenants.tokens import TenantAccessToken, TenantTokenBackend, _decoded, verify
from tests.tenants.forge import HOSTILE, Forge
from tests.tenants.states import set_state

UNAUTHORISED = {"code": "not_authenticated", "detail": "The credentials are not valid."}


@pytest.fixture
def forge(alice, globex):
    return Forge(alice)


def me(token, scheme="Bearer"):
    return APIClient().get("/api/v1/me/", headers={"Authorization": f"{scheme} {token}"})


def refresh(token):
    return APIClient().post("/api/v1/token/refresh/", {"refresh": token}, format="json")


@pytest.mark.parametrize("make", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_token_is_refused_like_any_other(forge, make):
    answer = me(make(forge))

    assert (answer.status_code, answer.json()) == (401, UNAUTHORISED)
    assert answer["WWW-Authenticate"] == "Bearer"
    assert me(forge.genuine).status_code == 200


def test_a_token_of_one_tenant_opens_no_other_for_a_member_of_that_one(forge, mallory):
    """The claim is signed with acme's own key: who holds one tenant's key holds no other tenant."""
    assert me(forge.claims_with(tenant=forge.other, sub=str(mallory.pk))).status_code == 401


def test_what_is_no_text_is_no_token(forge):
    assert verify(forge.genuine)["tenant"] == forge.tenant
    for token in (forge.genuine.encode(), 7, [forge.genuine], None):
        with pytest.raises(InvalidTokenError):
            verify(token)


def test_a_token_that_names_no_tenant_is_no_token(forge):
    with pytest.raises(InvalidTokenError):
        verify(forge.header_with(kid=f"{uuid.uuid4().hex}.1"))


def test_a_token_that_has_expired_is_refused_before_anybody_looks_at_its_claims(forge):
    with pytest.raises(TokenBackendError):
        TenantTokenBackend().decode(forge.claims_with(iat=forge.now - 601, exp=forge.now - 1))


@pytest.mark.parametrize("segment", ["A", "AA=", "AB", "AAB", "AAAAA", "AA\n", "AA==", "A A", "AA+/"])
def test_a_segment_has_one_spelling(segment):
    with pytest.raises(InvalidTokenError):
        _decoded(segment)
    assert (_decoded("AA"), _decoded("AAA"), _decoded("-_-_")) == (b"\0", b"\0\0", b"\xfb\xff\xbf")


def test_what_the_forge_signs_unchanged_is_accepted(forge):
    assert me(forge.sign()).json()["username"] == "alice"


@pytest.mark.parametrize("make", [lambda f: f.genuine, lambda f: "x", lambda f: f.sign(key=f.other_key)])
def test_only_a_refresh_token_refreshes(forge, make):
    assert refresh(make(forge)).status_code == 401
    assert refresh(forge.refresh).status_code == 200


def test_a_token_opens_its_own_tenant_alone(forge, mallory_api):
    assert me(forge.genuine).json()["tenant"] == "acme"
    assert mallory_api.get("/api/v1/me/").json()["tenant"] == "globex"


def test_a_token_is_signed_for_the_bound_tenant_only(forge, alice):
    with tenant_context("acme"):
        token = TenantAccessToken(forge.genuine)

    with tenant_context("globex"), pytest.raises(WrongTenantError):
        str(token)
    with pytest.raises(NoTenantError):
        str(token)


def test_the_token_of_a_disabled_member_opens_nothing(forge, alice):
    with tenant_context("acme"):
        type(alice).objects.filter(pk=alice.pk).update(is_active=False)

    assert (me(forge.genuine).status_code, me(forge.genuine).json()) == (401, UNAUTHORISED)
    assert refresh(forge.refresh).json() == UNAUTHORISED


def test_the_token_of_a_deleted_member_opens_nothing(forge, alice):
    with tenant_context("acme"):
        type(alice).objects.filter(pk=alice.pk).delete()

    assert (me(forge.genuine).status_code, me(forge.genuine).json()) == (401, UNAUTHORISED)


def test_a_disabled_member_is_refused_by_views_that_never_look_at_them(forge, alice):
    with tenant_context("acme"):
        type(alice).objects.filter(pk=alice.pk).update(is_active=False)

    answer = APIClient().get("/api/v1/scans/", headers={"Authorization": f"Bearer {forge.genuine}"})

    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("state", "status"),
    [("provisioning", 401), ("maintenance", 503), ("suspended", 403), ("deleting", 401), ("deleted", 401)],
)
def test_a_genuine_token_means_what_its_tenants_state_says(forge, mallory_api, state, status):
    set_state("acme", state)

    assert me(forge.genuine).status_code == status
    assert me(forge.sign(key=forge.other_key)).status_code == 401
    assert refresh(forge.refresh).status_code == status
    assert mallory_api.get("/api/v1/me/").status_code == 200


def test_a_signing_key_that_does_not_open_makes_its_own_tenant_unavailable(forge, mallory_api):
    with control_plane():
        keys = TenantKey.objects.filter(tenant_id=uuid.UUID(forge.tenant))
        sealed = keys.get().sealed_key
        keys.update(sealed_key=sealed[:-8] + ("AAAAAAA=" if sealed.endswith("=") else "AAAAAAAA"))
    set_state("acme", "active")

    answer = me(forge.genuine)

    assert (answer.status_code, answer.json()["code"]) == (503, "tenant_unavailable")
    assert "Retry-After" in answer
    assert mallory_api.get("/api/v1/me/").status_code == 200


def test_the_other_tenants_sealed_key_does_not_open_for_this_one(forge):
    with control_plane():
        sealed = TenantKey.objects.get(tenant_id=uuid.UUID(forge.other)).sealed_key
        TenantKey.objects.filter(tenant_id=uuid.UUID(forge.tenant)).update(sealed_key=sealed)
    set_state("acme", "active")

    assert me(forge.sign(key=forge.other_key)).status_code == 503
