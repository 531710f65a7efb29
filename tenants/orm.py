"""What the planes need of Django's ORM and migrations, put in place once at start-up, each with its reason."""

from functools import wraps
from typing import Any, cast

import django.contrib.auth.management as auth_management
import django.contrib.contenttypes.management as contenttypes_management
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS
from django.db.migrations.loader import MigrationLoader
from django.db.models.base import Model
from django.db.models.manager import BaseManager

from tenants.exceptions import UnnamedColumnsError
from tenants.planes import current, real_alias, require_bound
from tenants.routers import lives_in, require_same_database


def _of_own_database(method):
    """Django asks the router only where no ``using`` is given, and sets the new ``db`` after the row is written."""

    @wraps(method)
    def checked(self, *args, **kwargs):
        require_same_database(self, require_bound(), f"{method.__name__}() was called on")
        return method(self, *args, **kwargs)

    return checked


def _into_real_database(save_base):
    """What was saved with ``using="default"`` belongs to a database that has a name of its own."""

    @wraps(save_base)
    def saving(self, raw=False, force_insert=False, force_update=False, using=None, update_fields=None):
        using = real_alias(using) if using == DEFAULT_DB_ALIAS else using
        return save_base(self, raw, force_insert, force_update, using, update_fields)

    return saving


def names_its_columns(model: type[Model]) -> bool:
    """Whether an existing row of ``model`` is saved by the names of its columns only: those of our own apps are."""
    app = model._meta.app_config
    return app.label in settings.TENANT_APPS and not app.name.startswith("django.contrib.")


def _by_name(save):
    """
    Django's plain ``save()`` writes every column of a loaded row, changed or not: it takes back what others have
    written since, and makes the row again if they have deleted it. New rows are saved as ever, and so are fixtures,
    which do not come by here.
    """

    @wraps(save)
    def saving(self, *args, **kwargs):
        given = dict(zip(("force_insert", "force_update", "using", "update_fields"), args, strict=False)) | kwargs
        is_plain = not given.get("force_insert") and given.get("update_fields") is None
        if is_plain and not self._state.adding and names_its_columns(type(self)):
            require_same_database(self, require_bound(), "save() was called on")
            raise UnnamedColumnsError(
                f"save() would write every column of an existing {self._meta.label}. Name those that you have changed, "
                "save(update_fields=[...]); a copy is made by save(force_insert=True)."
            )
        return save(self, *args, **kwargs)

    return saving


def _load_own_plane(load_disk):
    """
    A database's migration history holds its own plane's apps only. Django records every app as applied, tables or
    not, and would later find nothing to do for an app that has moved to the plane.
    """

    @wraps(load_disk)
    def load(self):
        load_disk(self)
        bound = current()
        if self.connection is None or bound is None:  # makemigrations compares files with models, not with a database
            return
        self.disk_migrations = {
            key: migration for key, migration in self.disk_migrations.items() if lives_in(key[0], bound.plane)
        }
        self.migrated_apps = {label for label in self.migrated_apps if lives_in(label, bound.plane)}
        self.unmigrated_apps = {label for label in self.unmigrated_apps if lives_in(label, bound.plane)}

    return load


def _of_own_plane(create):
    """``flush`` would write every app's content types and permissions into every plane, as objects of ``default``."""

    @wraps(create)
    def create_for_own_plane(app_config, *args, using=DEFAULT_DB_ALIAS, **kwargs):
        bound = current()
        if bound is None or lives_in(app_config.label, bound.plane):
            create(app_config, *args, using=real_alias(using), **kwargs)

    return create_for_own_plane


def install() -> None:
    model, manager, loader = cast(Any, Model), cast(Any, BaseManager), cast(Any, MigrationLoader)
    model.save_base = _into_real_database(model.save_base)
    model.save = _by_name(model.save)
    for name in ("save_base", "delete", "refresh_from_db"):
        setattr(model, name, _of_own_database(getattr(model, name)))
    loader.load_disk = _load_own_plane(loader.load_disk)
    # Caches are keyed by it: under "default", or through a manager kept from one tenant, the next was served that
    # one's content types.
    manager_db = manager.db.fget
    manager.db = property(lambda self: real_alias(manager_db(self)))
    # Before the AppConfigs of these two connect them to post_migrate.
    contenttypes_management.create_contenttypes = _of_own_plane(contenttypes_management.create_contenttypes)
    auth_management.create_permissions = _of_own_plane(auth_management.create_permissions)
