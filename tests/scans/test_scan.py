"""One scan, from the request to the findings: real dispatcher, real worker, real engines, a real weak target."""

import pytest

from scans.models import Finding, Occurrence, Scan, TaskQueue
from scans.weak_targets.manifest import flaws_at
from tenants.context import tenant_context
from tests.scans.scanning import dispatch_and_work, make_target, request, state_of, weak_target


@pytest.fixture
def webshop(tmp_path):
    with weak_target("webshop", tmp_path) as ready:
        yield ready


def found(slug):
    with tenant_context(slug):
        return {(row.rule_key, row.port, row.path) for row in Finding.objects.filter(state="open")}


def test_a_scan_finds_what_was_planted_and_the_other_customer_sees_nothing(acme, alice, globex, webshop):
    with tenant_context("acme"):
        scan = request(alice, make_target(alice, webshop), "ports", "tls", "http")

    log = dispatch_and_work()

    planted = {(flaw.rule_key, flaw.port, flaw.path) for flaw in flaws_at("webshop", webshop["ports"])}
    assert found("acme") == planted, log
    with tenant_context("acme"):
        assert Scan.objects.get().state in ("succeeded", "partial")
        assert TaskQueue.objects.filter(handled_at=None).count() == 0
    assert found("globex") == set()
    assert state_of("acme", scan)[0] in ("succeeded", "partial")


def test_a_second_scan_updates_findings_instead_of_doubling_them(acme, alice, webshop):
    for _ in range(2):
        with tenant_context("acme"):
            target = getattr(Scan.objects.first(), "target", None) or make_target(alice, webshop)
            request(alice, target, "ports")
        dispatch_and_work()

    with tenant_context("acme"):
        findings = Finding.objects.count()
        assert findings > 0 and Occurrence.objects.count() == 2 * findings
        assert set(Finding.objects.values_list("state", "version")) == {("open", 1)}
