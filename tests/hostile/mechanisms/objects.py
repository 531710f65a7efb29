"""Objects"""

from django.contrib.auth.models import Group

from tests.hostile.mechanism import CONNECTION, ROUTER, mechanism
from tests.hostile.mechanisms.orm import defaced, first


@mechanism("save() of another's object", ROUTER, keep=first, writes=True)
def save(aim):
    """An object of an earlier unit of work, saved in this one: it would overwrite the own row of that key."""
    defaced(aim.kept).save()


@mechanism(
    "delete() of another's object", ROUTER, keep=first, control=lambda aim: defaced(aim.kept).save(), writes=True
)
def delete(aim):
    """`delete()` of an object of earlier work."""
    aim.kept.delete()


@mechanism("refresh_from_db() of another's object", ROUTER, keep=first)
def refresh(aim):
    """`refresh_from_db()` of an object of earlier work."""
    aim.kept.refresh_from_db()
    return aim.kept.name


@mechanism("refresh_from_db(using=)", CONNECTION)
def refresh_using(aim):
    """An own object, read again from another alias."""
    group = first(aim)
    group.refresh_from_db(using=aim.alias)
    return group.name


@mechanism("save(using=)", CONNECTION, writes=True)
def save_using(aim):
    """An own object, saved to another alias."""
    defaced(first(aim)).save(using=aim.alias)


@mechanism("save_base(using=)", CONNECTION, writes=True)
def save_base(aim):
    """What `save()` calls, called by itself."""
    defaced(first(aim)).save_base(using=aim.alias, raw=True)


@mechanism("an object that is said to be another's", ROUTER, writes=True)
def relabelled(aim):
    """`obj._state.db = alias`, then `save()`."""
    group = defaced(first(aim))
    group._state.db = aim.alias
    group.save()


@mechanism("a label written into the dictionary", ROUTER, writes=True)
def relabelled_in_dict(aim):
    """`obj._state.__dict__["db"] = alias`, then `save()`."""
    group = defaced(first(aim))
    group._state.__dict__["db"] = aim.alias
    group.save()


@mechanism("bulk_create() with using()", CONNECTION, writes=True)
def bulk_create(aim):
    """`Group.objects.using(alias).bulk_create(...)`."""
    Group.objects.using(aim.alias).bulk_create([Group(name="defaced")])


@mechanism("bulk_update() of another's objects", ROUTER, keep=first, writes=True)
def bulk_update(aim):
    """Objects of earlier work in `bulk_update()`."""
    Group.objects.bulk_update([defaced(aim.kept)], ["name"])


@mechanism("_base_manager", CONNECTION, writes=True)
def base_manager(aim):
    """`Group._base_manager.using(alias).update(...)`."""
    Group._base_manager.using(aim.alias).update(name="defaced")


@mechanism("_raw_delete()", CONNECTION, writes=True, control=lambda aim: Group.objects.update(name="defaced"))
def raw_delete(aim):
    """What the collector calls: `queryset._raw_delete(using=alias)`."""
    Group.objects.all()._raw_delete(aim.alias)
