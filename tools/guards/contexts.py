"""A pytest plugin: coverage remembers which test executed a line; `.coverage-durations`, how long each test took."""

import coverage
import pytest

DURATIONS = ".coverage-durations"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    measuring = coverage.Coverage.current()
    if measuring is None:
        return (yield)
    measuring.switch_context(item.nodeid)
    try:
        return (yield)
    finally:
        measuring.switch_context("")


def pytest_sessionfinish(session):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:  # not in a worker of xdist
        passed = reporter.stats.get("passed", [])
        lines = [f"{report.duration:.3f} {report.nodeid}\n" for report in passed]
        (session.config.rootpath / DURATIONS).write_text("".join(lines))
