"""What the engines touch, told by the interpreter itself: every connection and every look-up of a whole scan."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scans.engines.base import to_json

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = f"""
import json, sys
sys.path.insert(0, {str(ROOT)!r})
from scans.engines import ENGINES
from scans.engines.base import EngineTarget, from_json
from scans.engines.health import probe_health
touched = set()
def hook(event, arguments):
    if event == "socket.connect":
        touched.add(("connect", *arguments[1][:2]))
    elif event.startswith(("socket.getaddrinfo", "socket.gethostby", "socket.sendto", "subprocess", "os.system")):
        touched.add((event, str(arguments), 0))
sys.addaudithook(hook)
target = from_json(EngineTarget, json.load(sys.stdin))
probe_health(target)
for name in ("ports", "tls", "http"):
    engine = ENGINES[name]
    list(engine.run(target, engine.Options()))
print(json.dumps(sorted(touched)))
"""


@pytest.mark.parametrize("name", ["webshop", "intranet", "vault"])
def test_a_whole_scan_connects_to_the_listed_ports_of_the_pinned_addresses_and_looks_nothing_up(name, request):
    target = request.getfixturevalue(name).target
    named = to_json(target) | {"host": "name-that-nobody-may-resolve.example"}
    argv = [sys.executable, "-I", "-c", SCRIPT]

    done = subprocess.run(argv, input=json.dumps(named), capture_output=True, text=True, check=True)

    expected = [["connect", target.addresses[0], port] for port in sorted(target.ports)]
    assert json.loads(done.stdout) == expected
