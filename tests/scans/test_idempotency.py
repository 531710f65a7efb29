"""The same request, sent twice because its answer was lost."""

import threading
from datetime import timedelta

import pytest
from django.utils import timezone

from scans.models import IdempotencyKey, Scan, ScanProfile, Target, TaskQueue
from tenants.connections import close_tenant_connections
from tenants.context import tenant_context
from tests.conftest import api_client
from tests.scans.rows import authorize, make_target

PATH = "/api/v1/scans/"


@pytest.fixture
def body(alice):
    with tenant_context("acme"):
        target = make_target(alice)
        authorize(target, alice)
        return {"target": str(target.pk), "profile": str(ScanProfile.objects.get().pk)}


def ask(api, body, key="order-1"):
    return api.post(PATH, body, headers={"Idempotency-Key": key})


def counts():
    with tenant_context("acme"):
        return Scan.objects.count(), TaskQueue.objects.count(), IdempotencyKey.objects.count()


def test_the_same_key_and_body_have_the_same_answer_and_one_scan(alice_api, body):
    first = ask(alice_api, body)
    with tenant_context("acme"):
        Scan.objects.update(progress=50)

    again = ask(alice_api, dict(reversed(body.items())))

    assert (first.status_code, again.status_code) == (202, 202)
    assert again.content == first.content and again["Location"] == first["Location"]
    assert counts() == (1, 1, 1)


def test_the_same_key_with_another_body_is_refused(alice_api, alice, body):
    ask(alice_api, body)
    with tenant_context("acme"):
        other = make_target(alice, name="other")
        authorize(other, alice)

    refused = ask(alice_api, body | {"target": str(other.pk)})

    assert (refused.status_code, refused.json()["code"]) == (409, "idempotency_key_reused")
    assert counts() == (1, 1, 1)


def test_another_key_and_no_key_are_requests_of_their_own(alice_api, body):
    numbers = [ask(alice_api, body, key).json()["number"] for key in ("a", "A", "a" * 255)]
    numbers += [alice_api.post(PATH, body).json()["number"] for _ in range(2)]

    assert numbers == [1, 2, 3, 4, 5] and counts() == (5, 5, 3)


def test_a_key_is_its_members_own(alice_api, tom_api, body):
    assert ask(alice_api, body).json()["number"] == 1
    assert ask(tom_api, body).json()["number"] == 2


@pytest.mark.parametrize("spoil", ["a refusal", "an invalid body"])
def test_a_request_that_failed_is_not_remembered(alice_api, body, spoil):
    if spoil == "a refusal":
        make_active(False)
        assert ask(alice_api, body).status_code == 409
        make_active(True)
    else:
        assert ask(alice_api, body | {"target": "x"}).status_code == 400
    assert counts() == (0, 0, 0)

    assert ask(alice_api, body).status_code == 202


def make_active(is_active):
    with tenant_context("acme"):
        target = Target.objects.get()
        target.is_active = is_active
        target.save(update_fields=["is_active"])


@pytest.mark.parametrize("key", ["", " ", "two words", "ä", "a" * 256, "tab\t"], ids=repr)
def test_a_key_that_is_none_is_refused(alice_api, body, key):
    refused = ask(alice_api, body, key)

    assert (refused.status_code, list(refused.json()["errors"])) == (400, ["Idempotency-Key"])
    assert counts() == (0, 0, 0)


def test_of_the_same_request_many_times_at_once_one_scan_comes(alice, body):
    barrier, answers = threading.Barrier(4), []
    clients = [api_client("acme", alice) for _ in range(4)]

    def send(client):
        barrier.wait()
        answers.append(ask(client, body))
        close_tenant_connections()

    threads = [threading.Thread(target=send, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {(answer.status_code, answer.content) for answer in answers} == {(202, answers[0].content)}
    assert counts() == (1, 1, 1)


def test_after_a_day_a_key_is_forgotten(alice_api, body):
    ask(alice_api, body)
    with tenant_context("acme"):
        IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(days=1, seconds=1))

    assert ask(alice_api, body).json()["number"] == 2
    assert counts() == (2, 2, 1)
