"""What code does with Django's ORM in the bound tenant. Every answer is compared with what the tenant must hold."""

from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import Count, F, Max, Prefetch

from scans.models import Authorization, Finding, Occurrence, Scan, Target, TaskQueue
from tests.interleaving.canaries import Misdirected, canary_uuid, shared_key
from tests.interleaving.ledger import CONTENT_TYPE, SCANS, SPARE_KEYS, TASKS
from tests.interleaving.unit import operation


class Planned(Exception):
    """What units throw themselves."""


def names(unit, targets, what):
    found = {target.pk: target.name for target in unit.own(list(targets), what)}
    unit.ledger.require("targets", found, what)


def some_target(unit):
    return unit.chance.choice(sorted(unit.ledger.targets))


def new_target(unit, key, mark):
    return Target(
        pk=key, name=mark, host="deck.example", ports=[443], created_by_id=shared_key(99), ca_pem=f"{mark} too"
    )


def spare_keys(unit, count=1):
    free = [shared_key(number) for number in SPARE_KEYS if shared_key(number) not in unit.ledger.targets]
    return unit.chance.sample(free, min(count, len(free)))


def equal(unit, found, expected, what):
    if unit.own(found, what) != expected and unit.stack.is_guarded:
        raise Misdirected(f"{what} gave {found!r}, and should have given {expected!r}")


@operation("orm", 4)
def get_a_target(unit):
    key = some_target(unit)
    equal(unit, Target.objects.get(pk=key).name, unit.ledger.targets[key], "get")


@operation("orm", 4)
def list_all_targets(unit):
    names(unit, Target.objects.all(), "list")


@operation("orm", 2)
def chain_filters(unit):
    key = some_target(unit)
    found = (
        Target.objects.filter(is_active=True).exclude(host="other").filter(pk=key).order_by("-id").values("name")[:3]
    )
    equal(unit, list(found), [{"name": unit.ledger.targets[key]}], "filter chain")


@operation("orm", 2)
def count_and_aggregate(unit):
    equal(unit, Target.objects.count(), len(unit.ledger.targets), "count")
    equal(unit, TaskQueue.objects.aggregate(Max("id"))["id__max"], TASKS[-1], "aggregate")
    counted = Target.objects.annotate(scanned=Count("scans")).get(pk=shared_key(2))
    equal(unit, counted.scanned, len(SCANS), "annotate")


@operation("orm", 4)
def save_a_target(unit):
    key = some_target(unit)
    target = unit.own(Target.objects.get(pk=key), "get")
    target.name = unit.mark()
    target.save(update_fields=["name"])
    unit.ledger.targets[key] = target.name


@operation("orm", 1)
def save_through_default(unit):
    """What was saved so is this tenant's object afterwards, and can be saved again."""
    if not unit.stack.is_guarded:  # where default is a database of its own
        return
    key = some_target(unit)
    target = unit.own(Target.objects.get(pk=key), "get")
    for using in ("default", None):
        target.name = unit.mark()
        target.save(using=using, update_fields=["name"])
        unit.ledger.targets[key] = target.name


@operation("orm", 3)
def update_targets(unit):
    key, mark = some_target(unit), unit.mark()
    equal(unit, Target.objects.filter(pk=key).update(name=mark), 1, "update")
    unit.ledger.targets[key] = mark


@operation("orm", 3)
def create_a_target(unit):
    for key in spare_keys(unit):
        target = new_target(unit, key, unit.mark())
        target.save(force_insert=True)
        unit.ledger.targets[key] = target.name


@operation("orm", 3)
def delete_spare_targets(unit):
    spare = sorted(key for key in unit.ledger.targets if key.int > shared_key(SPARE_KEYS[0]).int - 1)
    for key in spare[:1]:
        unit.own(Target.objects.get(pk=key), "get").delete()
        del unit.ledger.targets[key]
    if len(spare) > 6:
        rest = spare[1:]
        Target.objects.filter(pk__in=rest).delete()
        for key in rest:
            del unit.ledger.targets[key]


@operation("orm", 2)
def create_in_bulk(unit):
    made = [new_target(unit, key, unit.mark()) for key in spare_keys(unit, 2)]
    Target.objects.bulk_create(made)
    unit.ledger.targets.update({target.pk: target.name for target in made})


@operation("orm", 2)
def update_in_bulk(unit):
    targets = unit.own(list(Target.objects.order_by("id")[:2]), "list")
    for target in targets:
        target.name = unit.mark()
    Target.objects.bulk_update(targets, ["name"])
    unit.ledger.targets.update({target.pk: target.name for target in targets})


@operation("orm", 2)
def get_or_create_a_target(unit):
    number = unit.chance.choice(SPARE_KEYS)
    mark = unit.mark()
    defaults = {"name": mark, "host": "deck.example", "ports": [1], "created_by_id": shared_key(99)}
    target, is_new = Target.objects.get_or_create(pk=shared_key(number), defaults=defaults)
    equal(unit, is_new, target.pk not in unit.ledger.targets, "get_or_create")
    equal(unit, target.name, unit.ledger.targets.setdefault(target.pk, mark), "get_or_create")


@operation("orm", 2)
def follow_relations(unit):
    target = Target.objects.get(pk=shared_key(2))
    scans = unit.own(list(target.scans.all()), "related manager")
    unit.ledger.require("scans", {scan.number: scan.message for scan in scans}, "related manager")
    for what in (scans[0].target, scans[0].profile, scans[0].created_by):
        unit.own(what, "forward relation")


@operation("orm", 2)
def prefetch_relations(unit):
    proofs = Prefetch("authorizations", queryset=Authorization.objects.order_by("id"))
    for target in Target.objects.prefetch_related(proofs, "scans").filter(pk__in=[shared_key(1), shared_key(2)]):
        unit.own(target, "prefetch")
        if target.pk == shared_key(1):
            found = {proof.pk: (target.pk, proof.statement) for proof in target.authorizations.all()}
            unit.ledger.require("authorizations", found, "prefetch")


@operation("orm", 1)
def join_tables(unit):
    seen = Occurrence.objects.select_related("finding__target", "run__scan").filter(finding__target__pk=shared_key(2))
    unit.own([[each, each.finding, each.finding.target, each.run, each.run.scan] for each in seen], "join")
    equal(unit, len(seen), 2, "join")


@operation("orm", 2)
def write_through_a_relation(unit):
    authorization = Authorization.objects.get(pk=shared_key(21))
    authorization.statement = unit.mark()
    authorization.target = Target.objects.get(pk=shared_key(1))
    authorization.save(update_fields=["statement", "target"])
    unit.ledger.authorizations[authorization.pk] = (shared_key(1), authorization.statement)


@operation("orm", 1)
def name_a_scan(unit):
    number, mark = unit.chance.choice(SCANS), unit.mark()
    Scan.objects.filter(number=number, target=Target.objects.get(pk=shared_key(2))).update(message=mark)
    unit.ledger.scans[number] = mark


@operation("orm", 3)
def dispatch_a_task(unit):
    """The collision that the design is tested against: task 41 is in every tenant."""
    number = unit.chance.choice(TASKS)
    expected = canary_uuid(unit.tenant, number)
    if unit.ledger.tasks[number][1] % 2:
        task = TaskQueue.objects.get(pk=number)
        equal(unit, task.message_id, expected, "task")
        task.dispatches += 1
        task.save(update_fields=["dispatches"])
    else:
        equal(unit, TaskQueue.objects.filter(pk=number).update(dispatches=F("dispatches") + 1), 1, "task")
    unit.ledger.tasks[number] = expected, unit.ledger.tasks[number][1] + 1


@operation("orm", 2)
def change_memberships(unit):
    owner = unit.own(get_user_model().objects.get(username="owner"), "user")
    group = unit.own(Group.objects.get(pk=2), "group")
    if 2 in unit.ledger.members:
        unit.chance.choice([owner.groups.remove, lambda group: group.user_set.remove(owner)])(group)
    else:
        unit.chance.choice([owner.groups.add, lambda group: group.user_set.add(owner)])(group)
    unit.ledger.members ^= {2}
    unit.ledger.require("members", set(owner.groups.values_list("pk", flat=True)), "many to many")


@operation("orm", 1)
def rename_a_group(unit):
    group = Group.objects.get(pk=1)
    equal(unit, group.name, unit.ledger.groups[1], "group")
    group.name = unit.mark()
    group.save()
    unit.ledger.groups[1] = group.name


@operation("orm", 1)
def look_up_content_types(unit):
    for manager in (ContentType.objects, ContentType.objects.db_manager("default")):
        unit.own(manager.get_for_id(CONTENT_TYPE), "content type")
    unit.own(ContentType.objects.get_for_model(Finding), "content type")


@operation("orm", 2)
def read_by_iterator_in_steps(unit):
    """Each step of it between other units' steps."""
    with unit.open_across_steps():
        found = {}
        iterator = Target.objects.order_by("id").iterator(chunk_size=2)
        for target in iterator:
            found[target.pk] = unit.own(target, "iterator").name
            yield
        unit.ledger.require("targets", found, "iterator")


@operation("orm", 2)
def commit_in_steps(unit):
    with unit.hold():
        key, mark, ran = some_target(unit), unit.mark(), []
        with transaction.atomic():
            Target.objects.select_for_update().filter(pk=key).update(name=mark)
            transaction.on_commit(lambda: ran.append(Target.objects.get(pk=key).name))
            yield
            names_now = dict(Target.objects.values_list("pk", "name"))
            yield
        equal(unit, names_now[key], mark, "in the transaction")
        equal(unit, ran, [mark], "on_commit")
        unit.ledger.targets[key] = mark


@operation("orm", 2)
def roll_back_in_steps(unit):
    with unit.hold():
        try:
            with transaction.atomic():
                Target.objects.update(name=unit.mark())
                yield
                TaskQueue.objects.update(dispatches=0)
                raise Planned
        except Planned:
            pass
        names(unit, Target.objects.all(), "after the rollback")


@operation("orm", 1)
def roll_back_to_a_savepoint(unit):
    key, mark = some_target(unit), unit.mark()
    with transaction.atomic():
        Target.objects.filter(pk=key).update(name=mark)
        try:
            with transaction.atomic():
                Target.objects.update(name=unit.mark())
                raise Planned
        except Planned:
            pass
    unit.ledger.targets[key] = mark
    names(unit, Target.objects.all(), "after the savepoint")
