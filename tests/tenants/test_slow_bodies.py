"""While a body is on its way nothing is locked for it, and nothing is believed that may have changed by its end."""

import json
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import pytest
from django.contrib.auth import get_user_model
from django.db import connections
from django.test import Client

from tenants.context import control_plane, tenant_context
from tests.conftest import api_client
from tests.installation import PASSWORD
from tests.tenants.mailing import patch


class Arriving(BytesIO):
    """A body of which nothing comes before ``meanwhile`` has been done, by another thread."""

    def __init__(self, body: bytes, meanwhile):
        super().__init__(body)
        self._meanwhile, self.found = meanwhile, []

    def read(self, *size):
        if not self.found:
            with ThreadPoolExecutor(1) as other:
                self.found.append(other.submit(self._by_itself).result())
        return super().read(*size)

    def _by_itself(self):
        try:
            return self._meanwhile()
        finally:
            connections.close_all()


class Gone(BytesIO):
    def read(self, *size):
        raise ConnectionResetError


def send(client, path, body: bytes, meanwhile, content_type="application/json"):
    arriving = Arriving(body, meanwhile)
    answer = client.generic("POST", path, body, content_type, **{"wsgi.input": arriving})
    assert len(arriving.found) == 1
    return answer, arriving.found[0]


LOSSES = {"disabled": ({"is_active": False}, 401), "demoted": ({"role": "tester"}, 403)}


@pytest.mark.parametrize(("changes", "status"), LOSSES.values(), ids=LOSSES)
def test_who_loses_their_right_while_their_body_arrives_changes_nothing(alice_api, acme, changes, status):
    with tenant_context("acme"):
        olivia = get_user_model().objects.create_user("olivia", PASSWORD, role="owner")
    api, body = api_client("acme", olivia), {"username": "eve", "email": "eve@acme.example", "role": "owner"}

    def lose():
        return patch(alice_api, f"/api/v1/users/{olivia.pk}/", **changes).status_code

    answer, lost = send(api, "/api/v1/users/", json.dumps(body).encode(), lose)

    assert (lost, answer.status_code) == (200, status)
    with tenant_context("acme"):
        assert not get_user_model().objects.filter(username="eve").exists()


@pytest.mark.parametrize("site", ["/t/acme/", "/operator/"])
def test_a_stranger_whose_body_is_on_its_way_keeps_nobody_from_writing(alice_api, tom, site):
    browser = Client(enforce_csrf_checks=True)
    browser.get(f"{site}login/")

    def write():
        plane = control_plane() if site == "/operator/" else tenant_context("acme")
        with plane:
            return get_user_model().objects.filter(username__in=["tom", "oscar"]).update(email="new@acme.example")

    answer, written = send(browser, f"{site}x/", b"csrfmiddlewaretoken=x", write, "application/x-www-form-urlencoded")

    assert (written, answer.status_code) == (1, 403)


@pytest.mark.parametrize("path", ["/t/acme/x/", "/operator/x/", "/api/v1/targets/"])
def test_a_body_that_is_too_large_is_refused_before_any_of_it_is_read(acme, path):
    """Forms with files in them too, which Django would read piece by piece."""
    browser = Client(enforce_csrf_checks=True)
    browser.get(f"{path.removesuffix('x/')}login/")
    arriving = Arriving(b"--x\r\n", lambda: None)
    length = {"wsgi.input": arriving, "CONTENT_LENGTH": str(256 * 1024 + 1)}
    answer = browser.generic("POST", path, b"--x\r\n", "multipart/form-data; boundary=x", **length)

    assert (answer.status_code, arriving.found) == (413, [])


def test_a_body_whose_sender_goes_away_is_a_malformed_request(alice_api):
    answer = alice_api.generic("POST", "/api/v1/targets/", b"{}", "application/json", **{"wsgi.input": Gone()})

    assert (answer.status_code, answer.json()["code"]) == (400, "bad_request")
