"""What is wrong with an answer."""

from dataclasses import dataclass
from typing import Any

import requests
from schemathesis import Case
from schemathesis.checks import load_all_checks
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.fuzz.members import Member

load_all_checks()
AS_DESCRIBED = [status_code_conformance, content_type_conformance, response_schema_conformance]
SHOWN = 400


@dataclass
class Asked:
    """``case`` is what the schema says of it, and None where it says nothing, as of an unknown method."""

    case: Case | None
    prepared: dict[str, Any]
    is_foreign: bool = False  # an id in its path is another tenant's

    def __str__(self) -> str:
        body = self.prepared.get("data") or self.prepared.get("json") or ""
        return f"{self.prepared['method']} {self.prepared['url']} {self.prepared['headers']} {body!r:.{SHOWN}}"


def faults_of(asked: Asked, member: Member, other: Member, answer: requests.Response) -> list[str]:
    faults = []
    if answer.status_code >= 500 and not (answer.status_code == 503 and "Retry-After" in answer.headers):
        faults.append(f"is a server error, {answer.status_code}")
    if answer.status_code == 429 and "Retry-After" not in answer.headers:
        faults.append("does not say when to try again")
    if asked.is_foreign and answer.status_code < 400:
        faults.append(f"is {answer.status_code} for an id of {other.slug}'s")
    if held := foreign_texts(asked, member, other, answer):
        faults.append(f"holds what is not {member.slug}'s: {', '.join(held)}")
    if asked.case is not None and answer.status_code < 500:
        faults += _not_as_described(asked.case, answer)
    elif asked.case is None and answer.status_code >= 400 and not _is_error(answer):
        faults.append(f"is no error of the contract's form: {answer.status_code} {answer.text:.{SHOWN}}")
    return faults


def foreign_texts(asked: Asked, member: Member, other: Member, answer: requests.Response) -> list[str]:
    """Other planes' texts and keys, but for those that the request itself had."""
    said, sent = f"{answer.headers} {answer.text}", str(asked)
    foreign = {*member.world.foreign_to(member.persona), *other.all_ids()} - member.all_ids()
    foreign.discard(str(member.world.users[member.persona].pk))  # both members have the same
    return sorted(text for text in foreign if text in said and text not in sent)


def _not_as_described(case: Case, answer: requests.Response) -> list[str]:
    try:
        case.validate_response(answer, checks=AS_DESCRIBED)
    except FailureGroup as group:
        return [f"is not as described: {type(each).__name__} {each.message:.{SHOWN}}" for each in group.exceptions]
    return []


def _is_error(answer: requests.Response) -> bool:
    if not answer.content:  # of a HEAD
        return answer.request.method == "HEAD"
    try:
        return {"code", "detail"} <= set(answer.json()) <= {"code", "detail", "errors"}
    except (ValueError, TypeError):
        return False
