"""
Secrets at rest: AES-256-GCM under a key that is not in any database.

Each record has a data key of its own, wrapped by one of two key-encryption keys. ``runtime`` opens what web and
workers need (runtime accounts, signing keys); ``fleet`` opens what only fleet commands need (migration accounts,
server administrators), and a process that serves members gives it up at its start. What was sealed for one tenant,
field and version opens for these alone, so that two rows cannot be swapped.
"""

import base64
import hmac
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

from tenants.exceptions import SecretError

SCHEME = "bh1"
KeyName = Literal["runtime", "fleet"]

_keys: dict[str, bytes] = {}
_given_up: set[str] = set()


class Secret(str):
    """
    A ``str`` that shows in no representation, and so in no log, error page or ``diffsettings`` of what holds it, and in
    no pickle. Formatted by itself it is what it is.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'********'"

    def __reduce_ex__(self, protocol):
        raise TypeError("A secret cannot be pickled.")

    def __deepcopy__(self, memo):
        return self

    __copy__ = lambda self: self  # noqa: E731


class _Key(bytes):
    """A key in a frame of an error page."""

    def __repr__(self) -> str:
        return "b'********'"


@dataclass(frozen=True)
class KeySource:
    """Where a key is to be had: an environment variable, the file that ``X_FILE`` names, or the default file."""

    variable: str
    default: Path

    @property
    def path(self) -> Path:
        return Path(os.environ.get(f"{self.variable}_FILE") or self.default)


def key_fault(source: KeySource) -> str | None:
    """What is wrong with a key, in one sentence with the remedy; ``None`` when it is right or not made yet."""
    try:
        _read(source)
    except SecretError as error:
        return str(error)
    except FileNotFoundError:
        if f"{source.variable}_FILE" in os.environ:
            return f"{source.variable}_FILE: {source.path} does not exist: name the file that holds the key."
    return None


def seal(secret: str, *, key: KeyName, tenant: object, field: str, version: int) -> str:
    context = _context(key, tenant, field, version)
    data_key = _Key(secrets.token_bytes(32))
    parts = (_encrypt(_load(key), data_key, context), _encrypt(data_key, _Key(secret.encode()), context))
    return ".".join((SCHEME, key, *(base64.urlsafe_b64encode(part).decode() for part in parts)))


def unseal(sealed: str, *, key: KeyName, tenant: object, field: str, version: int) -> Secret:
    """Raises ``SecretError`` for anything but exactly what was sealed, for this tenant, field and version."""
    context = _context(key, tenant, field, version)
    try:
        scheme, sealed_under, wrapped, body = sealed.split(".")
        if (scheme, sealed_under) != (SCHEME, key):
            raise ValueError
        data_key = _decrypt(_load(key), _decode(wrapped), context)
        return Secret(_decrypt(data_key, _decode(body), context).decode())
    except (ValueError, InvalidTag):
        raise SecretError(
            f"The sealed {field} of {tenant} (version {version}) does not open under the {key} key: "
            "the row was changed, or the key is another one."
        ) from None


def fleet_name(text: str) -> str:
    """A name of 40 hexadecimal digits for ``text`` that only who holds the fleet key can tell."""
    return hmac.digest(_load("fleet"), text.encode(), "sha256").hex()[:40]


def give_up_fleet_key() -> None:
    """Called at the start of processes that serve members: from here on nothing sealed under ``fleet`` opens here."""
    _given_up.add("fleet")
    _keys.pop("fleet", None)


def make_keys() -> list[Path]:
    """Makes the keys that are not there, each file with mode 0600; an existing key is never replaced."""
    made = []
    wanted = [source for source in settings.BULKHEAD_KEYS.values() if source.variable not in os.environ]
    files = [(source.path, base64.b64encode(secrets.token_bytes(32))) for source in wanted]
    files.append((settings.BULKHEAD_HOME / "keys" / "secret_key", secrets.token_urlsafe(48).encode()))
    for path, content in files:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Linked into place whole: a second process sees either no key or all of it, and never replaces one.
        draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        with open(os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(content)
            os.fsync(file.fileno())
        try:
            os.link(draft, path)
            made.append(path)
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return made


def _load(name: KeyName) -> bytes:
    if name in _given_up:
        raise SecretError(f"This process serves members and does not load the {name} key.")
    if name not in _keys:
        source = settings.BULKHEAD_KEYS[name]
        try:
            _keys[name] = _read(source)
        except FileNotFoundError:
            raise SecretError(
                f"There is no {name} key: set {source.variable}, or run `manage.py migrate`, which makes {source.path}."
            ) from None
    return _keys[name]


def _read(source: KeySource) -> bytes:
    text = os.environ.get(source.variable)
    where = source.variable
    if text is None:
        where = str(source.path)
        mode = source.path.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SecretError(f"{where}: others may read it (mode {stat.S_IMODE(mode):04o}): chmod 600 it.")
        try:
            text = source.path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise SecretError(f"{where}: cannot be read as text ({type(error).__name__}).") from None
    try:
        value = _Key(base64.b64decode(text.strip(), validate=True))
    except ValueError:
        value = _Key()
    if len(value) != 32:
        raise SecretError(f"{where}: is not 32 bytes in base64: make one with `openssl rand -base64 32`.")
    return value


def _context(key: str, tenant: object, field: str, version: int) -> bytes:
    parts = (SCHEME, key, str(tenant), field, str(version))
    return b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)


def _encrypt(key: bytes, content: bytes, context: bytes) -> bytes:
    nonce = secrets.token_bytes(12)
    return nonce + AESGCM(key).encrypt(nonce, content, context)


def _decrypt(key: bytes, content: bytes, context: bytes) -> _Key:
    return _Key(AESGCM(key).decrypt(content[:12], content[12:], context))


def _decode(part: str) -> bytes:
    """Strictly: Python's decoder skips characters that are none of its alphabet, and ignores bits at the end."""
    content = base64.urlsafe_b64decode(part)
    if base64.urlsafe_b64encode(content) != part.encode():
        raise ValueError
    return content
