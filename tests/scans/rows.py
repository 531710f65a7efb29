"""Rows as the API and the workers write them, in the bound tenant."""

from datetime import timedelta

from django.utils import timezone

from scans.models import Authorization, Finding, Occurrence, Scan, ScanCounter, ScanProfile, ScanRun, Target


def make_target(user, **fields):
    return Target.objects.create(
        **{"name": "Web shop", "host": "shop.example.com", "ports": [80, 443], "created_by": user} | fields
    )


def authorize(target, user, **fields):
    defaults = {"statement": "Signed by the CISO.", "expires_at": timezone.now() + timedelta(days=7)}
    return Authorization.objects.create(target=target, created_by=user, **defaults | fields)


def make_scan(target, user, **fields):
    profile = ScanProfile.objects.get(name="standard")
    return Scan.objects.create(
        **{"number": ScanCounter.next(), "target": target, "profile": profile, "created_by": user} | fields
    )


def make_run(scan, engine="http", **fields):
    defaults = {"fence": 1, "version": f"{engine} 1.0", "outcome": "completed", "exit_code": 0, "is_healthy": True}
    return ScanRun.objects.create(scan=scan, engine=engine, **defaults | fields)


def make_finding(run, evidence="", **fields):
    target = run.scan.target
    place = {"rule_key": "http.header.csp", "host": target.host, "port": 443, "path": "/"} | fields
    defaults = {
        "title": "No content security policy",
        "severity": "medium",
        "cwe": 693,
        "scheme": "https",
        "method": "GET",
        "remediation": "Send one.",
        "confidence": "verified",
        "last_seen_at": timezone.now(),
        "fingerprint": Finding.fingerprint_of(target.pk, *place.values()),
    }
    finding = Finding.objects.create(target=target, **defaults | place)
    Occurrence.objects.create(finding=finding, run=run, evidence=evidence)
    return finding
