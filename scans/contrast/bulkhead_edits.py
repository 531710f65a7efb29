"""
The lost update in Django, and here: the same two requests on rows of a tenant's database.

Django's own models are saved as Django saves, in the same database: the log of the workspace stands for a model that
nobody has given a version.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model
from django.test import Client

from scans.contrast.edits import BEFORE, CHANGES, WRITTEN, EditOutcome
from scans.contrast.listening import statements_sent
from scans.models import Target
from tenants.context import tenant_context
from tenants.exceptions import UnnamedColumnsError
from tenants.tokens import TenantRefreshToken

TENANT = "acme"


class Kind(NamedTuple):
    model: Any
    columns: dict[str, str]
    rest: Callable[[Any], dict[str, Any]]


LOG = Kind(LogEntry, {"name": "object_repr", "host": "change_message"}, lambda user: {"user": user, "action_flag": 2})
TARGET = Kind(Target, {name: name for name in BEFORE}, lambda user: {"created_by": user, "ports": [443]})


def save_whole(kind: Kind, pk) -> list[str]:
    return _save_each(kind, pk, lambda columns: {})


def save_columns(kind: Kind, pk) -> list[str]:
    return _save_each(kind, pk, lambda columns: {"update_fields": columns})


def ask(kind: Kind, pk) -> list[str]:
    """Both have read the row before either writes."""
    client, path = _client(), f"/api/v1/targets/{pk}/"
    read = [client.get(path).json()["version"] for _ in CHANGES]
    return [_answer(client, path, version, change) for version, change in zip(read, CHANGES, strict=True)]


def ask_again(kind: Kind, pk) -> list[str]:
    """Whoever is told that theirs was stale has seen both values, and asks once more."""
    client, path, answers = _client(), f"/api/v1/targets/{pk}/", ask(kind, pk)
    for number, answer in enumerate(answers):
        if answer != WRITTEN:
            answers[number] = _answer(client, path, client.get(path).json()["version"], CHANGES[number])
    return answers


WAYS: dict[str, tuple[Callable[[Kind, Any], list[str]], Kind]] = {
    "Django, save()": (save_whole, LOG),
    "Django, save(update_fields=[...])": (save_columns, LOG),
    "Bulkhead, save() of a target": (save_whole, TARGET),
    "Bulkhead, two PATCH requests": (ask, TARGET),
    "Bulkhead, two PATCH requests, the refused one once more": (ask_again, TARGET),
}


def run_edits() -> list[EditOutcome]:
    """Unbound, in an installation that ``fill()`` has filled."""
    return [_run(way, edit, kind) for way, (edit, kind) in WAYS.items()]


def _run(way: str, edit: Callable[[Kind, Any], list[str]], kind: Kind) -> EditOutcome:
    with tenant_context(TENANT):
        fields = {kind.columns[name]: value for name, value in BEFORE.items()}
        pk = kind.model.objects.create(**fields, **kind.rest(get_user_model().objects.get())).pk
    with statements_sent(lambda sql: sql.startswith(f'UPDATE "{kind.model._meta.db_table}"')) as statements:
        answers = edit(kind, pk)
    with tenant_context(TENANT):
        row = kind.model.objects.get(pk=pk)
        now = {name: getattr(row, column) for name, column in kind.columns.items()}
    return EditOutcome(way, tuple(statements), tuple(answers), now)


def _save_each(kind: Kind, pk, options: Callable[[list[str]], dict[str, Any]]) -> list[str]:
    answers = []
    with tenant_context(TENANT):
        rows = [kind.model.objects.get(pk=pk) for _ in CHANGES]
        for row, change in zip(rows, CHANGES, strict=True):
            for name, value in change.items():
                setattr(row, kind.columns[name], value)
            try:
                row.save(**options([kind.columns[name] for name in change]))
                answers.append(WRITTEN)
            except UnnamedColumnsError as error:
                answers.append(type(error).__name__)
    return answers


def _client() -> Client:
    with tenant_context(TENANT):
        token = str(TenantRefreshToken.for_user(get_user_model().objects.get()).access_token)
    return Client(headers={"Host": "localhost", "Authorization": f"Bearer {token}"})


def _answer(client: Client, path: str, version: int, change: dict[str, str]) -> str:
    answer = client.patch(path, change | {"version": version}, content_type="application/json")
    return WRITTEN if answer.status_code == 200 else f"{answer.status_code} {answer.json()['code']}"
