"""Every operation of the schema, as two members at once: tests/fuzz/fuzzing.py says how."""

import os

from tests.fuzz.fuzzing import Fuzz
from tests.routes.world import World
from tests.serving import WebServer

# FUZZ_EXAMPLES=20000 FUZZ_SEED=2 for longer, and otherwise.
EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "240"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))


def test_no_operation_fails_leaks_or_answers_otherwise_than_described_to_two_members_at_once(installation):
    with WebServer(installation) as web:
        fuzz = Fuzz(web.url, World())
        fuzz.run(EXAMPLES, SEED)

    assert not fuzz.faults, fuzz.report()
    assert len(fuzz.operations) >= 24 and sum(fuzz.statuses.values()) > EXAMPLES


PLANTED = "/api/v1/token/planted/"
FOUND = [
    f"POST {PLANTED}days/: the answer is a server error, 500",
    f"GET {PLANTED}targets/{{id}}/: the answer is 200 for an id of globex's",
    f"GET {PLANTED}targets/{{id}}/: the answer is 200 for an id of acme's",
    f"GET {PLANTED}targets/{{id}}/: the answer holds what is not acme's: canaryglobex",
    f"PUT {PLANTED}targets/{{id}}/: the answer is 200 for an id of globex's",
    "acme's member changed scans_target of globex",
    "globex's member changed scans_target of acme",
    "scans_target of globex holds canaryacme",
    "GET /api/v1/targets/: the answer holds what is not globex's: canaryacme",
    f"POST {PLANTED}never/ never succeeded as a member of acme",
    f"POST {PLANTED}never/ never succeeded as a member of globex",
    f"GET {PLANTED}otherwise/: the answer is not as described: JsonSchemaError",
    f"GET {PLANTED}status/: the answer is not as described: UndefinedStatusCode",
]


def test_what_is_planted_is_found(installation):
    web = WebServer(installation)
    web.environment["DJANGO_SETTINGS_MODULE"] = "tests.fuzz.planted_settings"
    rename = {f"{PLANTED}targets/{{}}/": lambda world: {"name": world.canary}}
    parts = {
        60: lambda path: path == f"{PLANTED}days/",
        12: lambda path: path == "/api/v1/targets/" or path.startswith(PLANTED) and "days" not in path,
    }
    with web:
        world, faults = World(), {}
        for examples, only in parts.items():
            fuzz = Fuzz(web.url, world, only, rename)
            fuzz.run(examples, seed=1)
            faults |= fuzz.faults

    assert [each for each in FOUND if not any(fault.startswith(each) for fault in faults)] == [], faults
