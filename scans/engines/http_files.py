"""Files that should not be served, known by their content: a page that answers 200 to everything has none."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from scans.engines import http_rules as rules
from scans.engines.base import FindingEvent, Rule
from scans.engines.http_client import Response
from scans.engines.http_site import Site
from scans.engines.net import NoAnswerError

_SETTING = re.compile(r"(?:export\s+)?[A-Za-z_][A-Za-z0-9_]{0,99}\s?=.{0,2000}")
_SQL_DUMP = (
    rb"\s{0,20}(?:--[^\n]{0,200}\n\s{0,20}){0,50}(?:-- (?:MySQL|MariaDB|PostgreSQL)|CREATE |INSERT INTO |DROP TABLE )"
)


@dataclass(frozen=True)
class ExposedFile:
    path: str
    rule: Rule
    content: re.Pattern[bytes]


def _file(path: str, rule: Rule, pattern: bytes) -> ExposedFile:
    return ExposedFile(path, rule, re.compile(pattern))


FILES = (
    _file("/.git/HEAD", rules.EXPOSED_GIT, rb"ref: refs/[\w./-]{1,200}\s{0,2}$|[0-9a-f]{40}\s{0,2}$"),
    _file("/.svn/wc.db", rules.EXPOSED_GIT, rb"SQLite format 3\x00"),
    _file("/id_rsa", rules.EXPOSED_KEY, rb"-----BEGIN (?:RSA |EC |OPENSSH |ENCRYPTED )?PRIVATE KEY-----"),
    _file("/server.key", rules.EXPOSED_KEY, rb"-----BEGIN (?:RSA |EC |OPENSSH |ENCRYPTED )?PRIVATE KEY-----"),
    _file("/.aws/credentials", rules.EXPOSED_KEY, rb"\s{0,20}\[[\w -]{1,50}\]\s{1,20}aws_access_key_id"),
    _file("/backup.sql", rules.EXPOSED_DUMP, _SQL_DUMP),
    _file("/dump.sql", rules.EXPOSED_DUMP, _SQL_DUMP),
    _file("/database.sql", rules.EXPOSED_DUMP, _SQL_DUMP),
    _file("/db.sqlite3", rules.EXPOSED_DUMP, rb"SQLite format 3\x00"),
    _file("/backup.zip", rules.EXPOSED_BACKUP, rb"PK\x03\x04"),
    _file("/backup.tar.gz", rules.EXPOSED_BACKUP, rb"\x1f\x8b\x08"),
    _file("/index.php.bak", rules.EXPOSED_BACKUP, rb"\s{0,20}<\?php"),
    _file("/config.php.bak", rules.EXPOSED_BACKUP, rb"\s{0,20}<\?php"),
    _file("/wp-config.php.bak", rules.EXPOSED_BACKUP, rb"\s{0,20}<\?php"),
    _file("/settings.py.bak", rules.EXPOSED_BACKUP, rb"(?:[^<]{0,2000}\n)?[A-Z_]{2,60} ?= ?[^\n]"),
    _file("/phpinfo.php", rules.EXPOSED_STATUS, rb"[\s\S]{0,4000}<title>(?:PHP [\w.-]{1,40} - )?phpinfo\(\)"),
    _file("/server-status", rules.EXPOSED_STATUS, rb"[\s\S]{0,2000}Apache Server Status for"),
)
ENV_PATHS = ("/.env", "/.env.local", "/.env.production")


def check_files(site: Site) -> Iterator[FindingEvent]:
    try:
        catch_all = site.missing_page
    except NoAnswerError as error:
        site.miss(str(error), *rules.FILE_RULES.values())
        return
    for path in ENV_PATHS:
        response = site.ask(path, rules.EXPOSED_ENV)
        names = env_names(response) if response else []
        if names and not env_names(catch_all):
            evidence = f"{len(names)} settings, values left out: {', '.join(names[:20])}"
            yield site.finding(rules.EXPOSED_ENV, path, evidence, place="file")
    for file in FILES:
        response = site.ask(file.path, file.rule)
        if response and _is_file(response, file) and not _is_file(catch_all, file):
            evidence = f"Answered 200, {len(response.body)} bytes, of the kind that its name says"
            yield site.finding(file.rule, file.path, evidence, place="file")


def _is_file(response: Response, file: ExposedFile) -> bool:
    return response.status == 200 and file.content.match(response.body) is not None


def env_names(response: Response) -> list[str]:
    """The names set in an environment file, or none if any line of it is something else. Never the values."""
    if response.status != 200:
        return []
    lines = [line.strip() for line in response.text.splitlines()[:500]]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not all(_SETTING.fullmatch(line) for line in lines):
        return []
    return [line.removeprefix("export ").partition("=")[0].strip() for line in lines]
