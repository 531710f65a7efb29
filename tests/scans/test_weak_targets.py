"""Whole scans of the weak targets by the engines that are always there, through the runner, as in the demo."""

import time
from pathlib import Path

import pytest

from scans.engines import ENGINES
from scans.engines.base import FindingEvent
from scans.engines.runner import Limits, run_engine
from scans.weak_targets.manifest import MANIFEST, PORT_BASE, SERVICES, PlantedFlaw, compare, flaws_at
from tests.scans.engines.conftest import intranet, start_target, vault, webshop  # noqa: F401  fixtures

STANDARD = ("ports", "tls", "http")


def whole_scan(target):
    findings, results = [], []
    for name in STANDARD:
        engine = ENGINES[name]
        *events, result = run_engine(engine, target, engine.Options(), Limits(), lambda: False)
        findings += [event for event in events if isinstance(event, FindingEvent)]
        results.append(result)
    return findings, results


@pytest.mark.parametrize("name", MANIFEST)
def test_a_whole_scan_finds_exactly_what_was_planted_completely_and_in_five_seconds(name, request):
    running = request.getfixturevalue(name)
    started = time.monotonic()

    findings, results = whole_scan(running.target)

    comparison = compare(findings, flaws_at(name, running.ports))
    assert (comparison.missed, comparison.false) == ((), ())
    assert len(comparison.found) == len(MANIFEST[name])
    assert [(result.outcome, result.healthy, result.not_covered) for result in results] == [("completed", True, ())] * 3
    assert time.monotonic() - started < 5


def test_each_weak_target_has_at_least_seven_flaws_that_the_other_has_not():
    webshop_rules, intranet_rules = ({flaw.rule_key for flaw in MANIFEST[name]} for name in ("webshop", "intranet"))

    assert len(webshop_rules - intranet_rules) >= 7
    assert len(intranet_rules - webshop_rules) >= 7
    assert MANIFEST["vault"] == ()


def test_every_planted_flaw_lies_on_a_port_of_its_target_and_is_a_rule_of_a_standard_engine():
    known = {key for name in STANDARD for key in ENGINES[name].RULES}
    for name, flaws in MANIFEST.items():
        ports = {PORT_BASE + distance for distance in SERVICES[name].values()}
        assert {flaw.port for flaw in flaws} <= ports
        assert {flaw.rule_key for flaw in flaws} <= known


def test_a_target_that_dies_in_mid_scan_is_not_healthy_so_that_nothing_it_lacks_counts_as_fixed(start_target):  # noqa: F811
    dying = start_target("webshop", "--die-after", "25")
    engine = ENGINES["http"]

    *_, result = run_engine(engine, dying.target, engine.Options(), Limits(), lambda: False)

    assert dying.process.wait(5) == 1
    assert result.health_before.answered
    assert not result.health_after.answered
    assert not result.healthy
    assert result.not_covered


def test_a_comparison_names_found_missed_and_false():
    env = PlantedFlaw("http.exposed.env", 80, "/.env", "")
    git = PlantedFlaw("http.exposed.git", 80, "/.git/HEAD", "")
    elsewhere = PlantedFlaw("http.exposed.git", 81, "/.git/HEAD", "")

    comparison = compare([env, env, elsewhere], [env, git])

    assert (comparison.found, comparison.missed, comparison.false) == ((env,), (git,), (elsewhere,))


def test_the_ports_of_a_manifest_move_with_the_target():
    flaws = flaws_at("intranet", {"http": 1001, "https": 1002, "redis": 1003})

    assert {flaw.port for flaw in flaws} == {1001, 1002, 1003}
    assert flaws[0].rule_key == MANIFEST["intranet"][0].rule_key


def test_a_weak_target_listens_on_its_own_loopback_address_alone_and_within_a_memory_limit(webshop):  # noqa: F811
    limits = Path(f"/proc/{webshop.process.pid}/limits").read_text()
    listening = {
        line.split()[1]
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]
        if int(line.split()[1].partition(":")[2], 16) in webshop.ports.values() and line.split()[3] == "0A"
    }

    assert str(512 * 1024**2) in limits
    assert {address.partition(":")[0] for address in listening} == {"0B00007F"}
    assert len(listening) == 3


def test_the_keys_of_a_weak_target_are_readable_by_their_owner_alone(webshop):  # noqa: F811
    arguments = Path(f"/proc/{webshop.process.pid}/cmdline").read_text().split("\0")
    directory = Path(arguments[arguments.index("--directory") + 1])

    modes = {file.stat().st_mode & 0o777 for file in directory.glob("*.pem")}

    assert modes == {0o600}
