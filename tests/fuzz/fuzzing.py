"""
Requests for every operation that the served schema has, as a member of acme and a member of globex at the same time.

schemathesis makes what fits the schema and what does not, and says whether an answer is as described. What is added
here: two members at once, ids that they have seen in answers and the other's among them, requests that are broken in
ways that no schema describes, and the tenants' walls. All of it follows from the seed.
"""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random

import hypothesis
import schemathesis
from hypothesis import HealthCheck, Phase
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.core import NOT_SET

from tests.fuzz.judging import Asked, faults_of
from tests.fuzz.members import Member, example_of
from tests.fuzz.mutations import NOT_DESCRIBED, breakages, broken
from tests.routes.world import World, contents

WAYS = ["fits", "does not fit", "is broken", "is an example", "is a broken example"]
# A log-in may be tried at any tenant, by anybody, and is counted there.
WRITTEN_BY_ANYBODY = {"accounts_tries"}


class Fuzz:
    """``faults`` is what was found, each once; ``reached`` the operations that succeeded, by tenant."""

    def __init__(self, url: str, world: World, only: Callable[[str], bool] = lambda path: True, examples=None):
        self.acme, self.globex = (Member(slug, world, url) for slug in ("acme", "globex"))
        served = self.acme.http.get(f"{url}/api/schema/", headers={"Accept": "application/vnd.oai.openapi+json"})
        schema = schemathesis.openapi.from_dict(served.json())
        self.operations = [found.ok() for found in schema.get_all_operations() if only(found.ok().path)]
        modes = {"fits": GenerationMode.POSITIVE, "does not fit": GenerationMode.NEGATIVE}
        self.cases = {
            (each.label, way): each.as_strategy(generation_mode=mode)
            for each in self.operations
            for way, mode in modes.items()
        }
        self.examples: dict[str, Callable] = examples or {}
        self.chance = Random(0)  # of what depends on answers, which what hypothesis draws must not
        self.faults: dict[str, str] = {}
        self.reached: dict[str, set[str]] = {"acme": set(), "globex": set()}
        self.refusals: dict[tuple[str, str], str] = {}
        self.statuses: Counter[int] = Counter()

    def run(self, examples: int, seed: int) -> None:
        """A third of them alone, in turn, so that nothing of the other's may change; the others at once."""
        self.chance.seed(seed)
        for member, other in ((self.acme, self.globex), (self.globex, self.acme)):
            before = _kept(other.slug)
            for operation in self.operations:
                for whose in (other, member):
                    self._judge(self._example(operation, member, whose), member)
                for number in (1, 2):  # a step that needs a row in another state
                    if operation.label not in self.reached[member.slug]:
                        self._judge(self._example(operation, member, member, number), member)
            self._break_each_way(member, seed if member is self.acme else seed + len(self.operations) // 2)
            self._generate([member], examples // 6, seed)
            for table in [table for table, rows in _kept(other.slug).items() if rows != before[table]]:
                self._found(f"{member.slug}'s member changed {table} of {other.slug}", "")
        self._generate([self.acme, self.globex], examples // 3, seed + 1)
        self._look_back()

    def _generate(self, members: list[Member], examples: int, seed: int) -> None:
        """Faults are gathered, not raised: hypothesis would repeat a request that the data no longer answer so."""

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=max(1, examples), database=None, deadline=None,
            phases=[Phase.generate], suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @hypothesis.given(st.data())
        def together(data):
            asked = [self._draw(data, member) for member in members]
            answers = list(threads.map(lambda pair: pair[0].send(pair[1].prepared), zip(members, asked, strict=True)))
            for member, each, answer in zip(members, asked, answers, strict=True):
                self._take(each, member, answer)

        self.chance.seed(seed)
        with ThreadPoolExecutor(len(members)) as threads:
            together()

    def _draw(self, data, member: Member) -> Asked:
        operation = data.draw(st.sampled_from(self.operations))
        way = data.draw(st.sampled_from(WAYS))
        if "example" in way:
            asked = self._example(operation, member, member)
            body = asked.case.body if asked.case.body is not NOT_SET else None
        else:
            case = data.draw(self.cases[operation.label, "fits" if way == "is broken" else way])
            body = case.body if isinstance(case.body, dict) else None
            is_foreign = self._mix_ids(case, body or {}, member)
            asked = Asked(case, _prepared(case, member), is_foreign)
        if "broken" in way:
            return self._break(self.chance.choice(breakages(body is not None)), asked, body, member)
        return asked

    def _break(self, breakage, asked: Asked, body: dict | None, member: Member) -> Asked:
        prepared = broken(breakage, self.chance, asked.prepared, body, self._other(member).slug)
        is_described = breakage[0] not in NOT_DESCRIBED
        return Asked(asked.case if is_described else None, prepared, asked.is_foreign and is_described)

    def _break_each_way(self, member: Member, first: int) -> None:
        """Every breakage once, of one operation after the other, from ``first``."""
        every = len(self.operations)
        for number, breakage in enumerate(breakages(has_body=True), first):
            takes_none = breakage in breakages(has_body=False)
            rotated = [self.operations[(number + each) % every] for each in range(every)]
            examples = (self._example(operation, member, member) for operation in rotated)
            asked = next((each for each in examples if takes_none or each.case.body is not NOT_SET), None)
            if asked is not None:
                body = asked.case.body if asked.case.body is not NOT_SET else None
                self._judge(self._break(breakage, asked, body, member), member)

    def _mix_ids(self, case, body: dict, member: Member) -> bool:
        """Own ids and the other tenant's, where ids go; canaries where texts go. Whether one in the path is foreign."""
        is_foreign = False
        for name, segment in _parameters(case.operation.path).items():
            whose = self.chance.choice([member, member, self._other(member), None])
            if whose and (ids := whose.ids_for(segment)):
                case.path_parameters[name] = self.chance.choice(ids)
                is_foreign |= whose is not member and case.path_parameters[name] not in member.all_ids()
        for name, value in [*body.items()]:
            whose = self.chance.choice([member, self._other(member), None])
            if whose and (ids := whose.ids_for(name)):
                body[name] = self.chance.choice(ids)
            elif whose is member and isinstance(value, str) and self.chance.random() < 0.5:
                body[name] = f"{member.canary} {value}"
        return is_foreign

    def _example(self, operation, member: Member, whose: Member, number: int = 0) -> Asked:
        """What is known to succeed, for ``whose`` row, the one of this number."""
        known = {name: whose.ids_for(segment) or ["0"] for name, segment in _parameters(operation.path).items()}
        parameters = {name: ids[number % len(ids)] for name, ids in known.items()}
        has_body = operation.method.upper() in ("POST", "PUT", "PATCH")
        body = example_of(operation.path, member, self.examples) if has_body else None
        sent = {"body": body, "media_type": "application/json"} if body is not None else {}
        case = operation.Case(path_parameters=parameters, **sent)
        return Asked(case, _prepared(case, member), is_foreign=whose is not member and bool(parameters))

    def _judge(self, asked: Asked, member: Member) -> None:
        self._take(asked, member, member.send(asked.prepared))

    def _take(self, asked: Asked, member: Member, answer) -> None:
        if answer is None:
            self._found("A request was not answered", str(asked))
            return
        self.statuses[answer.status_code] += 1
        for fault in faults_of(asked, member, self._other(member), answer):
            what = asked.case.operation.label if asked.case else "A request of no operation"
            self._found(f"{what}: the answer {fault}", f"{asked}\n{answer.status_code} {answer.text:.300}")
        if asked.case is not None:
            label = asked.case.operation.label
            if answer.ok:
                self.reached[member.slug].add(label)
                member.learn(asked.case.operation.path, answer)
            elif not asked.is_foreign:
                self.refusals[label, member.slug] = f"{answer.status_code} {answer.text:.300}"
        if answer.status_code in (401, 403):
            member.revive()

    def _look_back(self) -> None:
        for member in (self.acme, self.globex):
            for operation in self.operations:
                if operation.label not in self.reached[member.slug]:
                    last = self.refusals.get((operation.label, member.slug), "not asked")
                    self._found(
                        f"{operation.label} never succeeded as a member of {member.slug}",
                        "Give it a body that does in BODIES of tests/routes/asking.py, and its ids rows in KINDS "
                        f"there and in tests/routes/world.py. Its last answer: {last}",
                    )
            foreign = self._other(member).canary
            for table, rows in contents(member.slug).items():
                if any(foreign in row for row in rows):
                    self._found(f"{table} of {member.slug} holds {foreign}", "")

    def _other(self, member: Member) -> Member:
        return self.globex if member is self.acme else self.acme

    def _found(self, fault: str, shown: str) -> None:
        self.faults.setdefault(fault, shown)

    def report(self) -> str:
        return "\n\n".join(f"{fault}\n{shown}" for fault, shown in self.faults.items())


def _parameters(path: str) -> dict[str, str]:
    """Name to the segment before it, which says of what it is an id."""
    segments = path.split("/")
    return {each.strip("{}"): before for before, each in zip(segments, segments[1:], strict=False) if "{" in each}


def _prepared(case, member: Member) -> dict:
    prepared = case.as_transport_kwargs(base_url=member.url)
    return prepared | {"headers": dict(prepared["headers"])}


def _kept(slug: str) -> dict[str, list]:
    return {table: rows for table, rows in contents(slug).items() if table not in WRITTEN_BY_ANYBODY}
