"""The API's description is valid, complete and open to everybody."""

import json

import pytest
import yaml
from django.core.management import call_command
from django.urls import URLPattern, get_resolver
from openapi_spec_validator import validate


@pytest.fixture
def schema(tmp_path):
    """As ``manage.py spectacular`` writes it, which fails on the first warning."""
    path = tmp_path / "schema.json"
    call_command("spectacular", "--validate", "--fail-on-warn", "--format", "openapi-json", "--file", str(path))
    return json.loads(path.read_text())


def operations(schema):
    return {
        (path, method): operation
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
        if path.startswith("/api/v1/")
    }


def test_the_schema_is_openapi(schema):
    validate(schema)


def test_every_path_of_the_api_is_described(schema):
    def paths(patterns, prefix=""):
        for pattern in patterns:
            route = prefix + str(pattern.pattern)
            if isinstance(pattern, URLPattern):
                yield "/" + route
            elif route.startswith("api/"):
                yield from paths(pattern.url_patterns, route)

    described = [
        path.replace("{id}", "<uuid:pk>").replace("{target_id}", "<uuid:target_id>") for path in schema["paths"]
    ]

    routes = {path for path in paths(get_resolver().url_patterns) if path.startswith("/api/v1/")}
    assert len(routes) >= 14
    assert routes == set(described)


def test_every_operation_but_logging_in_needs_a_token(schema):
    for (path, _), operation in operations(schema).items():
        expected = None if path.startswith("/api/v1/token/") else [{"bearerAuth": []}]
        assert operation.get("security") in ([expected] if expected else [None, [{}]])
    assert schema["components"]["securitySchemes"]["bearerAuth"]["scheme"] == "bearer"


def test_every_operation_describes_its_errors(schema):
    for (path, method), operation in operations(schema).items():
        statuses = set(operation["responses"])
        assert {"400", "401", "403", "406", "503"} <= statuses, (path, method)
        assert ("404" in statuses) == ("{" in path)
        assert statuses & {"413", "415"} == ({"413", "415"} if "requestBody" in operation else set())
    error, invalid = schema["components"]["schemas"]["Error"], schema["components"]["schemas"]["Invalid"]
    assert (set(error["properties"]), set(invalid["properties"])) == ({"code", "detail"}, {"code", "detail", "errors"})


def test_a_scan_is_accepted_and_its_report_is_html(schema):
    paths = schema["paths"]

    assert set(paths["/api/v1/scans/"]["post"]["responses"]) >= {"202", "409"}
    assert "201" not in paths["/api/v1/scans/"]["post"]["responses"]
    assert list(paths["/api/v1/scans/{id}/report.html"]["get"]["responses"]["200"]["content"]) == ["text/html"]
    filters = {parameter["name"] for parameter in paths["/api/v1/findings/"]["get"]["parameters"]}
    assert filters == {"limit", "offset", "target", "scan", "state", "severity"}


def test_ports_and_engines_are_described_as_they_are_checked(schema):
    schemas = schema["components"]["schemas"]

    assert schemas["Target"]["properties"]["ports"]["items"] == {"type": "integer", "minimum": 1, "maximum": 65535}
    assert schemas["ScanProfile"]["properties"]["engines"]["additionalProperties"] is False
    assert {"ports", "tls", "http"} <= set(schemas["ScanProfile"]["properties"]["engines"]["properties"])


def test_a_change_takes_the_version_that_was_read_and_a_stale_one_is_told_both_values(schema):
    changing = {path: methods["patch"] for path, methods in schema["paths"].items() if "patch" in methods}
    assert "/api/v1/targets/{id}/" in changing
    for patch in changing.values():
        body = schema_of(schema, patch["requestBody"])
        read_only = {name for name, field in body["properties"].items() if field.get("readOnly")}
        assert set(body["required"]) - read_only == {"version"}
        assert body["properties"]["version"]["minimum"] == 1
        told = schema_of(schema, patch["responses"]["409"])
        assert set(told["properties"]) == {"code", "detail", "version", "errors"}
        assert set(told["required"]) == {"code", "detail"}
    assert set(schema["components"]["schemas"]["BothValues"]["properties"]) == {"yours", "theirs"}


def schema_of(schema, described):
    reference = described["content"]["application/json"]["schema"]["$ref"]
    return schema["components"]["schemas"][reference.rpartition("/")[2]]


def test_the_schema_and_its_page_are_served_to_everybody(stranger_api, schema):
    served = stranger_api.get("/api/schema/")
    page = stranger_api.get("/api/docs/")

    assert served.status_code == page.status_code == 200
    assert yaml.safe_load(served.content) == schema
    assert b"https://cdn" not in page.content
