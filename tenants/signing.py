"""
Inside a tenant, Django signs with that tenant's keys: sessions and their hash, password-reset tokens, cookies, messages
and everything else that is signed with ``SECRET_KEY``. So a clone of a tenant's database, with the same users, password
hashes and sessions, accepts none of the original's.

docs/adr/0011-facets.md says why the setting is replaced, and not those who read it.
"""

from collections.abc import Callable
from typing import Any, cast

from django.conf import LazySettings, settings
from django.core.signing import Signer

from tenants.planes import current


class _OfTheTenant:
    """A setting that differs from tenant to tenant; elsewhere it is the installation's own, overridden or not."""

    def __init__(self, name: str, own: Callable[[Any], Any]):
        self.name = name
        self.own = own

    def __get__(self, lazy, owner=None):
        bound = current()
        if bound is None or bound.record is None:
            return lazy.__getattr__(self.name)
        return self.own(bound.record)

    def __set__(self, lazy, value):
        """Never called: ``LazySettings`` sets in what it wraps. Without it a value kept there would come first."""


class _NotKept:
    """``Signer`` reads the setting when it is made: one that a module keeps would sign alike for every tenant."""

    def __init__(self, name: str, setting: str):
        self.name = name
        self.setting = setting

    def __get__(self, signer, owner=None):
        given = signer.__dict__[self.name]
        return getattr(settings, self.setting) if given is None else given

    def __set__(self, signer, value):
        signer.__dict__[self.name] = None if value is getattr(settings, self.setting) else value


def install() -> None:
    lazy, signer = cast(Any, LazySettings), cast(Any, Signer)
    lazy.SECRET_KEY = _OfTheTenant("SECRET_KEY", lambda record: record.django_keys[0])
    lazy.SECRET_KEY_FALLBACKS = _OfTheTenant("SECRET_KEY_FALLBACKS", lambda record: record.django_keys[1])
    signer.key = _NotKept("key", "SECRET_KEY")
    signer.fallback_keys = _NotKept("fallback_keys", "SECRET_KEY_FALLBACKS")
