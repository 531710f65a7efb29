"""Requests through the whole URL stack, with real tokens; of the bound tenant and, from inside it, of others."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextvars import Context
from uuid import UUID, uuid4

from tests.interleaving.canaries import Misdirected, Unexpected, require_own, shared_key
from tests.interleaving.unit import operation


def ask(unit, tenant, method, path, body=None, expected=(200,), **options):
    """The JSON of an answer, in which no other tenant has a row."""
    response = unit.request(tenant, method, path, body if body is None else json.dumps(body), **options)
    text = response.content.decode()
    require_own(tenant, text, f"{method} {path} in unit {unit.number}")
    if response.status_code not in expected and unit.stack.is_guarded:
        raise Unexpected(f"{method} {path} of tenant {tenant} in {unit.here}: {response.status_code} {text[:300]}")
    is_json = response.status_code < 400 and "json" in response.headers.get("Content-Type", "")
    return json.loads(text) if is_json else {}


def whose(unit):
    """Whose request it is: most are for another tenant than the one that is bound where they come in."""
    if unit.tenant is not None and unit.chance.random() < 0.3:
        return unit.tenant
    return unit.free_tenant()


def _require(unit, is_right, what, found):
    if not is_right and unit.stack.is_guarded:
        raise Misdirected(f"{what}: {found!r}")


@operation("http", 2)
def list_targets_by_http(unit):
    tenant = whose(unit)
    page = ask(unit, tenant, "GET", "/api/v1/targets/?limit=200")
    found = {UUID(row["id"]): row["name"] for row in page.get("results", [])}
    _require(unit, found == unit.machine.ledgers[tenant].targets, f"GET targets of tenant {tenant}", found)


@operation("http", 2)
def read_the_shared_key_by_http(unit):
    tenant = whose(unit)
    found = ask(unit, tenant, "GET", f"/api/v1/targets/{shared_key(1)}/").get("name")
    _require(unit, found == unit.machine.ledgers[tenant].targets[shared_key(1)], "GET a target", found)


@operation("http", 2)
def read_a_foreign_key_by_http(unit):
    """One that only another tenant has, if there is any."""
    tenant, other = whose(unit), unit.free_tenant()
    ledgers = unit.machine.ledgers
    foreign = sorted(set(ledgers[other].targets) - set(ledgers[tenant].targets)) if other != tenant else []
    key = foreign[0] if foreign else uuid4()
    ask(unit, tenant, "GET", f"/api/v1/targets/{key}/", expected=(404,))


@operation("http", 1)
def create_by_http(unit):
    tenant = whose(unit)
    mark = unit.mark_of(tenant)
    body = {"name": mark, "host": "deck.example", "ports": [8443]}
    made = ask(unit, tenant, "POST", "/api/v1/targets/", body, expected=(201,))
    if "id" in made:
        unit.machine.ledgers[tenant].targets[UUID(made["id"])] = mark


@operation("http", 1)
def patch_by_http(unit):
    tenant, key = whose(unit), shared_key(unit.chance.choice([1, 2, 3]))
    mark = unit.mark_of(tenant)
    read = ask(unit, tenant, "GET", f"/api/v1/targets/{key}/")
    ask(unit, tenant, "PATCH", f"/api/v1/targets/{key}/", {"name": mark, "version": read.get("version", 1)})
    unit.machine.ledgers[tenant].targets[key] = mark


@operation("http", 1)
def write_and_be_refused_by_http(unit):
    """What an unsafe request wrote is undone from 400."""
    tenant, status = whose(unit), unit.chance.choice([200, 400])
    mark = unit.mark_of(tenant)
    response = unit.request(tenant, "POST", f"/api/v1/machine/write/{status}/", mark)
    _require(unit, response.status_code == status, "POST write", response.status_code)
    if status == 200:
        unit.machine.ledgers[tenant].targets[shared_key(1)] = mark


@operation("http", 1)
def read_more_by_http(unit):
    tenant = whose(unit)
    path = unit.chance.choice(["findings/", f"findings/{shared_key(61)}/", "scans/", f"scans/{shared_key(41)}/", "me/"])
    ask(unit, tenant, "GET", f"/api/v1/{path}")


@operation("http", 0.2)
def read_a_report_by_http(unit):
    ask(unit, whose(unit), "GET", f"/api/v1/scans/{shared_key(41)}/report.html")


@operation("http", 0.7)
def read_a_body_in_steps(unit):
    """It may be closed, or left to the collector, half-way."""
    with unit.open_across_steps():
        tenant = unit.tenant
        response = unit.request(tenant, "GET", "/api/v1/machine/stream/")
        found, end = [], unit.chance.choice(["read", "close", "leave"])
        body = iter(response.streaming_content)
        # Whoever sends it is bound to nothing.
        while (chunk := Context().run(next, body, None)) is not None:
            found.append(require_own(tenant, chunk.decode(), "A streamed body"))
            unit.require_bound()
            yield
            if end != "read" and len(found) == 2:
                break
        else:
            _require(unit, found[1:] == _names(unit, tenant), "A streamed body", found)
        if end == "close":
            unit.stack.close(response)
        elif end == "leave":
            unit.machine.litter.append(response)
            del response
            yield
            unit.collect()  # if nobody else has
        unit.require_bound()


def _names(unit, tenant):
    targets = unit.machine.ledgers[tenant].targets
    return [targets[key] for key in sorted(targets)]


@operation("http", 0.4)
def ask_with_a_token_of_two_tenants(unit):
    """Signed with one tenant's key, and naming the other one."""
    tenant = unit.free_tenant()
    other = unit.free_tenant(but=tenant)
    if not unit.stack.is_guarded:
        return
    header, claims, signature = unit.stack.tokens[tenant].split(".")
    content = json.loads(urlsafe_b64decode(claims + "==")) | {"tenant": unit.stack.ids[other]}
    forged = urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
    ask(unit, None, "GET", "/api/v1/targets/", expected=(401,), token=f"{header}.{forged}.{signature}")
