"""What is kept beside databases"""

import pickle

from django.core import signing
from django.core.cache import cache
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection

from tests.hostile.mechanism import OPEN, Verdict, mechanism, read
from tests.hostile.mechanisms.memory import PLAIN_MEMORY


def cached(aim):
    cache.set("note", read(connection.cursor()))


def stored(aim):
    if not default_storage.exists("note"):
        default_storage.save("note", ContentFile(repr(read(connection.cursor())).encode()))


@mechanism("the cache, by the same key", Verdict("facet"), keep=cached)
def cache_key(aim):
    """`cache.get(key)` of a key that others set too: a key is its plane's."""
    return cache.get("note")


@mechanism("the cache's own dictionary", OPEN, keep=cached, outer=PLAIN_MEMORY)
def cache_dictionary(aim):
    """`cache._cache` of the cache in memory: every plane's entries."""
    return [pickle.loads(value) for key, value in cache._cache.items() if key.startswith(f"{aim.alias}:")]


@mechanism(
    "a value that another signed",
    Verdict("facet", "BadSignature"),
    keep=lambda aim: signing.dumps(read(connection.cursor())),
)
def signed_value(aim):
    """`signing.loads(...)` of what was signed in another plane."""
    return signing.loads(aim.kept)


@mechanism("a path to another's files", Verdict("facet", "SuspiciousFileOperation"), keep=stored)
def storage_path(aim):
    """`default_storage.open("../<the other's>/note")`."""
    return default_storage.open(f"../{aim.alias}/note").read()
