"""
A pytest plugin: instead of the tests, a list of removals is gone through, each in a forked child.

What takes the time is started once: Python, Django, an installation, its servers. A child swaps the code, runs the
tests for the removal until the first that is red, and tells which that was. It says nothing of what it cannot show: of
edits of what runs at import, and of tests that start processes of their own, which have the source as it was.
"""

import json
import os
import select
import signal
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tools.guards.candidates import is_slow_to_start
from tools.guards.swap import NotSwappable, swap

SECONDS = 60
NOT_SWAPPABLE = "it is of what runs at import"


class Warm:
    def __init__(self, work: dict, answers: int):
        self.work, self.answers = work, answers
        self.installation: Any = None
        self.red = ""
        self.is_sound: dict[str, bool] = {}  # whether a test is green in a child from which nothing is taken out

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef):
        value = yield
        if fixturedef.argname == "_engine":
            self.installation = value
        return value

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.red = self.red or report.nodeid

    def pytest_runtestloop(self, session):
        first = self.work["first"]
        # The first test of another engine would end the installation that all children share.
        items = {
            item.nodeid: item for item in session.items if is_slow_to_start(item.nodeid) is is_slow_to_start(first)
        }
        self._run(session, items[first])
        for job in self.work["jobs"]:
            began_at = time.monotonic()
            chosen = [item for test in job["tests"] for name, item in items.items() if _is_of(name, test)]
            red = "" if self.red else self._try(session, job, chosen)
            answer = {"name": job["name"], "red": red, "seconds": time.monotonic() - began_at}
            os.write(self.answers, json.dumps(answer).encode() + b"\n")
        return True

    def _try(self, session, job: dict, items: list) -> str:
        while red := self._in_child(session, job, items):
            if red == NOT_SWAPPABLE:
                return red
            if red not in self.is_sound:
                source = Path(job["path"]).read_text()
                only = [item for item in items if item.nodeid == red]
                self.is_sound[red] = not self._in_child(session, job | {"source": source}, only)
            if self.is_sound[red]:
                return red
            items = [item for item in items if item.nodeid != red]
        return ""

    def _run(self, session, item) -> None:
        """Leaves what is set up for the whole session as it is, and nothing else."""
        after = SimpleNamespace(listchain=lambda: [session])
        item.ihook.pytest_runtest_protocol(item=item, nextitem=after)

    def _in_child(self, session, job: dict, items: list) -> str:
        read, write = os.pipe()
        if (child := os.fork()) == 0:
            try:
                os.setsid()
                path = Path(job["path"]).absolute()
                # What is imported after the swap, as backends are that settings name, would have the source as it was.
                import_module(job["path"].removesuffix(".py").removesuffix("/__init__").replace("/", "."))
                swap(str(path), path.read_text(), job["source"])
                for item in items:
                    self._run(session, item)
                    if self.red:
                        os.write(write, self.red.encode())
                        break
            except NotSwappable:
                os.write(write, NOT_SWAPPABLE.encode())
            finally:
                os._exit(0)
        os.close(write)
        is_ready = select.select([read], [], [], SECONDS)[0]
        red = os.read(read, 65536).decode() if is_ready else ""
        os.close(read)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        self.installation.restore()
        return red


def _is_of(name: str, test: str) -> bool:
    """``test`` may be a file or a function."""
    return name == test or name.startswith((f"{test}::", f"{test}["))


def pytest_configure(config):
    work, answers = Path(os.environ.pop("GUARDS_WORK")), int(os.environ.pop("GUARDS_ANSWERS"))
    config.pluginmanager.register(Warm(json.loads(work.read_text()), answers), "guards-warm")
