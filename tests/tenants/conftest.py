import pytest
from django.contrib.auth.hashers import Argon2PasswordHasher

from tests.sick import sick, sick_server  # noqa: F401  fixtures


@pytest.fixture
def hashed(monkeypatch):
    """How often a password was hashed; the hashing itself goes on as it would."""
    calls = []
    for name in ("encode", "verify"):
        method = getattr(Argon2PasswordHasher, name)

        def counting(*args, method=method, name=name, **kwargs):
            calls.append(name)
            return method(*args, **kwargs)

        monkeypatch.setattr(Argon2PasswordHasher, name, counting)
    return calls
