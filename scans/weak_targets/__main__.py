"""``python -m scans.weak_targets NAME --directory DIR``: serve until killed, or until the parent ends."""

import argparse
import ctypes
import json
import os
import resource
import signal
import sys
import threading
from pathlib import Path

from scans.weak_targets import intranet, vault, webshop
from scans.weak_targets.certificates import make_authority
from scans.weak_targets.manifest import ADDRESSES, PORT_BASE, SERVICES
from scans.weak_targets.server import Lifetime

TARGETS = {"webshop": webshop, "intranet": intranet, "vault": vault}
MEMORY_BYTES = 512 * 1024 * 1024

_PR_SET_PDEATHSIG = 1
_M_ARENA_MAX = -8


def confine(parent: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        raise SystemExit("The parent ended before the target could start.")
    libc.mallopt(_M_ARENA_MAX, 2)  # glibc's arenas, one per thread, would use up the address space
    threading.stack_size(512 * 1024)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m scans.weak_targets",
        description="A server with planted flaws (vault: with none), on a loopback address of its own.",
        epilog="Example: python -m scans.weak_targets webshop --directory /tmp/webshop",
    )
    parser.add_argument("name", choices=sorted(TARGETS))
    parser.add_argument("--directory", type=Path, required=True, help="where certificates and their keys are written")
    parser.add_argument("--port-base", type=int, default=PORT_BASE, help="first port; 0 takes free ones")
    parser.add_argument("--die-after", type=int, metavar="N", help="end abruptly after N requests")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> None:
    parent = os.getppid()
    options = parse(arguments)
    confine(parent)
    options.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority = make_authority()
    base = options.port_base
    ports = {service: base + distance if base else 0 for service, distance in SERVICES[options.name].items()}
    address = ADDRESSES[options.name]
    lifetime = Lifetime(options.die_after)
    servers = TARGETS[options.name].make_servers(address, ports, options.directory, authority, lifetime)
    for server in servers.values():
        threading.Thread(target=server.serve_forever, daemon=True).start()
    ready = {
        "name": options.name,
        "address": address,
        "ports": {service: server.server_address[1] for service, server in servers.items()},
        "ca_pem": authority.pem,
    }
    sys.stdout.write(json.dumps(ready) + "\n")
    sys.stdout.flush()
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1:])
