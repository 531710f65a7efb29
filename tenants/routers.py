"""Ring one: the only place that answers "which database?", and it answers with the bound plane or an error."""

from functools import cache

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS

from tenants.exceptions import WrongTenantError
from tenants.planes import Bound, Plane, require_bound


@cache
def _labels(plane: Plane) -> frozenset[str]:
    return frozenset({Plane.CONTROL: settings.CONTROL_APPS, Plane.TENANT: settings.TENANT_APPS}.get(plane, ()))


def lives_in(app_label: str, plane: Plane) -> bool:
    return app_label in _labels(plane)


class PlaneRouter:
    def db_for_read(self, model, instance=None, **hints):
        bound = require_bound()
        if not lives_in(model._meta.app_label, bound.plane):
            raise WrongTenantError(
                f"{model._meta.label} does not live in the {bound.plane} plane, and {bound} is bound. "
                "Bind the plane that holds it."
            )
        if instance is not None:
            require_same_database(instance, bound, f"{model._meta.label} was reached through")
        return bound.alias

    db_for_write = db_for_read

    def allow_relation(self, first, second, **hints):
        bound = require_bound()
        for instance in (first, second):
            require_same_database(instance, bound, "A relation was made with")
        return True

    def allow_migrate(self, db, app_label, model_name=None, model=None, **hints):
        bound = require_bound()
        if db not in (DEFAULT_DB_ALIAS, bound.alias):
            raise WrongTenantError(f"Migrations were asked about {db!r}, but {bound} is bound.")
        if model is not None and not model._meta.managed:
            return False
        return lives_in(app_label, bound.plane)


def require_same_database(instance, bound: Bound, what: str) -> None:
    origin = instance._state.db
    if origin is not None and origin != bound.alias:
        raise WrongTenantError(
            f"{what} an object of {origin}, but {bound} is bound ({bound.alias}). Load it again inside this binding."
        )
