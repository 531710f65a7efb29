"""
Ring two. Each case makes something in acme and uses it: again in acme, where it works; in globex and where nothing is
bound, where it is refused, and nothing of either tenant is read or changed.
"""

import copy
import pickle

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db.models import Exists, OuterRef, Prefetch, Q, Subquery, prefetch_related_objects

from scans.models import Authorization, Scan, ScanProfile, Target
from tenants.accounts.models import User
from tenants.context import control_plane, tenant_context
from tenants.exceptions import NoTenantError, WrongTenantError
from tests.scans.rows import authorize, make_scan, make_target


def filled(queryset):
    """With its rows in its cache."""
    len(queryset)
    return queryset


def opened(iterator):
    """With one row taken, and more of them fetched already."""
    next(iterator)
    return iterator


# What is made in acme, and what is then done with it.
CASES = {
    "a lazy queryset": (lambda: Target.objects.all(), list),
    "a filtered queryset": (lambda: Target.objects.filter(is_active=True), list),
    "a sliced queryset": (lambda: Target.objects.all()[:1], list),
    "values": (lambda: Target.objects.values("name"), list),
    "values_list": (lambda: Target.objects.values_list("name", flat=True), list),
    "its clone": (lambda: Target.objects.all(), lambda made: made.filter(is_active=True)),
    "count": (lambda: Target.objects.all(), lambda made: made.count()),
    "exists": (lambda: Target.objects.all(), lambda made: made.exists()),
    "first": (lambda: Target.objects.all(), lambda made: made.first()),
    "aggregate": (lambda: Target.objects.all(), lambda made: made.aggregate()),
    "in_bulk": (lambda: Target.objects.all(), lambda made: made.in_bulk()),
    "dates": (lambda: Target.objects.datetimes("created_at", "day"), list),
    "explain": (lambda: Target.objects.all(), lambda made: made.explain()),
    "update": (lambda: Target.objects.all(), lambda made: made.update(name="theirs")),
    "delete": (lambda: Authorization.objects.all(), lambda made: made.delete()),
    "get_or_create": (lambda: Group.objects.all(), lambda made: made.get_or_create(name="theirs")),
    "raw": (lambda: Target.objects.raw("SELECT * FROM scans_target"), list),
    "an iterator": (lambda: opened(Target.objects.iterator()), next),
    "a raw iterator": (lambda: opened(Target.objects.raw("SELECT * FROM scans_target").iterator()), next),
    "a filled cache": (lambda: filled(Target.objects.all()), list),
    "its length": (lambda: filled(Target.objects.all()), len),
    "its first row": (lambda: filled(Target.objects.all()), lambda made: made[0]),
    "its truth": (lambda: filled(Target.objects.all()), bool),
    "its text": (lambda: filled(Target.objects.all()), repr),
    "its count": (lambda: filled(Target.objects.all()), lambda made: made.count()),
    "membership in it": (lambda: filled(Target.objects.all()), lambda made: "x" in made),
    "a filled raw cache": (lambda: filled(Target.objects.raw("SELECT * FROM scans_target")), list),
    "a filled cache of groups": (lambda: filled(Group.objects.all()), list),
    "a filled cache of permissions": (lambda: filled(Permission.objects.all()), list),
    "a filled cache of content types": (lambda: filled(ContentType.objects.all()), list),
    "a filled cache of users": (lambda: filled(User.objects.all()), list),
    "a pickled lazy queryset": (lambda: pickle.dumps(Target.objects.all()), lambda made: list(pickle.loads(made))),
    "a copied queryset": (lambda: copy.copy(filled(Target.objects.all())), list),
    "a deeply copied queryset": (lambda: copy.deepcopy(Target.objects.all()), list),
    "a related manager's queryset": (lambda: Target.objects.first().scans.all(), list),
    "a prefetched relation": (
        lambda: Target.objects.prefetch_related("scans").first(),
        lambda made: list(made.scans.all()),
    ),
    "a related manager": (lambda: Target.objects.first().scans, lambda made: made.count()),
    "a forward relation": (lambda: Scan.objects.first(), lambda made: made.target),
    "a deferred field": (lambda: Target.objects.only("id").first(), lambda made: made.name),
    "prefetching on objects": (lambda: [Target.objects.first()], lambda made: prefetch_related_objects(made, "scans")),
    "an object in a filter": (lambda: Target.objects.first(), lambda made: list(Scan.objects.filter(target=made))),
    "an object in exclude": (lambda: Target.objects.first(), lambda made: list(Scan.objects.exclude(target=made))),
    "an object in Q": (lambda: Target.objects.first(), lambda made: list(Scan.objects.filter(~Q(target=made)))),
    "objects in a list": (lambda: [Target.objects.first()], lambda made: list(Scan.objects.filter(target__in=made))),
    "an object in get": (lambda: Scan.objects.first(), lambda made: Target.objects.get(scans=made)),
    "a queryset in a filter": (
        lambda: Target.objects.all(),
        lambda made: list(Scan.objects.filter(target__in=made)),
    ),
    "a filled queryset in a filter": (
        lambda: filled(Target.objects.all()),
        lambda made: list(Scan.objects.filter(target__in=made)),
    ),
    "a queryset in Subquery": (lambda: Target.objects.values("pk"), lambda made: Subquery(made)),
    "a queryset in Exists": (
        lambda: Scan.objects.filter(target=OuterRef("pk")),
        lambda made: list(Target.objects.filter(Exists(made))),
    ),
    "a queryset in Prefetch": (
        lambda: Scan.objects.all(),
        lambda made: list(Target.objects.prefetch_related(Prefetch("scans", queryset=made))),
    ),
    "a union": (lambda: Target.objects.all(), lambda made: Target.objects.all().union(made)),
    "an intersection of two": (lambda: Target.objects.all(), lambda made: Target.objects.all() & made),
    "a combination of two": (lambda: Target.objects.all(), lambda made: Target.objects.all() | made),
    "contains": (lambda: Target.objects.first(), lambda made: Target.objects.contains(made)),
    "contains of a filled cache": (
        lambda: Target.objects.first(),
        lambda made: filled(Target.objects.all()).contains(made),
    ),
    "update with an object": (lambda: Target.objects.first(), lambda made: Scan.objects.update(target=made)),
    "create with an object": (
        lambda: Target.objects.first(),
        lambda made: Authorization(target=made, statement="x"),
    ),
    "save of one field": (lambda: Target.objects.first(), lambda made: made.save(update_fields=["name"])),
    "save with using": (
        lambda: Target.objects.first(),
        lambda made: made.save(using="default", update_fields=["name"]),
    ),
    "delete of an object": (lambda: Authorization.objects.first(), lambda made: made.delete()),
    "refresh": (lambda: Target.objects.first(), lambda made: made.refresh_from_db()),
    "full_clean": (lambda: User.objects.first(), lambda made: made.full_clean()),
    "bulk_create": (
        lambda: [Target.objects.first()],
        lambda made: Target.objects.bulk_create(made, ignore_conflicts=True),
    ),
    "bulk_update": (lambda: [Target.objects.first()], lambda made: Target.objects.bulk_update(made, ["name"])),
    "add to a relation": (lambda: User.objects.first(), lambda made: _group().user_set.add(made)),
    "set of a relation": (lambda: [User.objects.first()], lambda made: _group().user_set.set(made)),
    "remove from a relation": (lambda: User.objects.first(), lambda made: _group().user_set.remove(made)),
    "a pickled object": (
        lambda: pickle.dumps(Target.objects.first()),
        lambda made: pickle.loads(made).save(update_fields=["name"]),
    ),
    "a copied object": (
        lambda: copy.deepcopy(Target.objects.first()),
        lambda made: made.save(update_fields=["name"]),
    ),
    "a copy with a new key": (
        lambda: _without_key(Target.objects.first()),
        lambda made: made.save(force_insert=True),
    ),
}


def _group():
    return Group.objects.first() or Group.objects.create(name="the control plane's")


def _without_key(target):
    target.pk = None
    return target


@pytest.fixture
def rows(alice, mallory):
    """Alike in both tenants, down to the keys where they are counted."""
    for slug, user in (("acme", alice), ("globex", mallory)):
        with tenant_context(slug):
            for name in ("one", "two"):
                target = make_target(user, name=f"{slug} {name}")
                authorize(target, user)
                make_scan(target, user)
            Group.objects.create(name=f"{slug} group").user_set.add(user)


def contents(slug):
    with tenant_context(slug):
        models = (Target, Authorization, Scan, ScanProfile, User, Group, User.groups.through)
        return [sorted(map(str, model.objects.values_list())) for model in models]


@pytest.mark.parametrize("case", CASES)
def test_what_was_made_in_one_tenant_is_of_no_use_in_another_or_in_none(rows, case):
    make, use = CASES[case]
    with tenant_context("acme"):
        use(make())  # the owner's own use is no offence
        made = [make() for _ in range(3)]
    before = contents("acme"), contents("globex")

    with tenant_context("globex"), pytest.raises(WrongTenantError):
        use(made.pop())
    with control_plane(), pytest.raises(WrongTenantError):
        use(made.pop())
    with pytest.raises((NoTenantError, WrongTenantError)):
        use(made.pop())

    assert (contents("acme"), contents("globex")) == before


CLASS_LEVEL = Target.objects.order_by("name")


def test_a_queryset_of_a_class_or_module_serves_each_tenant_its_own(rows):
    for slug in ("acme", "globex", "acme"):
        with tenant_context(slug):
            assert [target.name for target in CLASS_LEVEL.all()] == [f"{slug} one", f"{slug} two"]
            assert CLASS_LEVEL.count() == 2 and CLASS_LEVEL.first().name == f"{slug} one"


def test_a_queryset_of_a_class_or_module_keeps_nobodys_rows(rows):
    with tenant_context("acme"), pytest.raises(WrongTenantError, match="Clone it"):
        list(CLASS_LEVEL)
    with tenant_context("globex"), pytest.raises(WrongTenantError, match="Clone it"):
        list(CLASS_LEVEL)


def test_a_pickled_filled_queryset_keeps_its_rows_to_itself(rows):
    with tenant_context("acme"):
        pickled = pickle.dumps(filled(Target.objects.all()))
        assert len(pickle.loads(pickled)) == 2
    with tenant_context("globex"), pytest.raises(WrongTenantError):
        list(pickle.loads(pickled))


@pytest.mark.parametrize("model", [Group, Permission, ContentType])
def test_the_same_key_in_two_tenants_is_two_rows(rows, model):
    objects = []
    for slug in ("acme", "globex"):
        with tenant_context(slug):
            objects.append(model.objects.order_by("pk").first())
            assert objects[-1] == model.objects.order_by("pk").first()
    one, other = objects
    other.pk = one.pk

    assert one != other and len({one, other}) == 2
    assert one not in [other] and one in [one]


def test_an_asynchronous_iterator_is_of_its_tenant_too(rows):
    async def iterate():
        async with tenant_context("acme"):
            iterator = Target.objects.aiterator()
            await anext(iterator)
        await anext(iterator)

    with pytest.raises((NoTenantError, WrongTenantError)):
        async_to_sync(iterate)()
