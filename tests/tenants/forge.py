"""Hostile tokens, each of a mechanism of its own, and the tools that make them."""

import base64
import hashlib
import hmac
import json
import time
import uuid
from dataclasses import replace

import jwt
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from django.conf import settings
from rest_framework_simplejwt.tokens import AccessToken

from tenants.context import current_record, tenant_context
from tenants.tokens import TenantRefreshToken

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
RSA_PUBLIC = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def b64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def as_json(value) -> bytes:
    return value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()


class Forge:
    """A genuine token of alice's in its parts, the keys of both tenants, and the tools to put others together."""

    def __init__(self, user):
        with tenant_context("acme"):
            record = current_record()
            self.tenant, self.key = record.snapshot.id.hex, record.derived_key(1, "token")
            self.root_key, self.job_key = bytes.fromhex(record.signing_keys[1]), record.derived_key(1, "job")
            restored = replace(record, snapshot=replace(record.snapshot, generation=2))
            self.key_after_a_restore = restored.derived_key(1, "token")
            self.genuine = str(TenantRefreshToken.for_user(user).access_token)
            self.refresh = str(TenantRefreshToken.for_user(user))
        with tenant_context("globex"):
            record = current_record()
            self.other, self.other_key = record.snapshot.id.hex, record.derived_key(1, "token")
        self.header, self.claims = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in self.parts[:2])
        self.user = user
        self.now = int(time.time())

    @property
    def parts(self):
        return self.genuine.split(".")

    def sign(self, header=None, claims=None, key=None, digest=hashlib.sha256):
        """Signed as it should be, with acme's own key unless told otherwise: what is hostile is the content."""
        header, claims = (
            as_json(given or genuine) for given, genuine in ((header, self.header), (claims, self.claims))
        )
        content = f"{b64(header)}.{b64(claims)}"
        return f"{content}.{b64(hmac.new(key or self.key, content.encode(), digest).digest())}"

    def header_with(self, **changes):
        return self.sign(header=self.header | changes)

    def claims_with(self, **changes):
        return self.sign(claims=self.claims | changes)

    def without(self, claim):
        return self.sign(claims={name: value for name, value in self.claims.items() if name != claim})

    def rsa_signed(self):
        content = f"{b64(as_json(self.header | {'alg': 'RS256'}))}.{self.parts[1]}"
        return f"{content}.{b64(RSA.sign(content.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    def respelled(self, part):
        """The same bytes in another spelling: the bits that base64 leaves over are set."""
        alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
        parts = self.parts
        parts[part] = parts[part][:-1] + alphabet[alphabet.index(parts[part][-1]) + 1]
        return ".".join(parts)

    def with_an_empty_segment(self):
        """Whatever decoder reads on where base64 has ended takes it for three: the payload fills its last group."""
        filled = next(jti for n in range(1, 4) if len(as_json(self.claims | {"jti": (jti := "x" * n)})) % 3 == 0)
        header, payload, _ = self.claims_with(jti=filled).split(".")
        content = f"{header}.{payload}."
        return f"{content}.{b64(hmac.new(self.key, content.encode(), hashlib.sha256).digest())}"

    def globally_signed(self):
        token = AccessToken.for_user(self.user)
        for name in ("tenant", "aud", "iss"):
            token[name] = self.claims[name]
        return jwt.encode(token.payload, settings.SECRET_KEY, "HS256")  # simplejwt's default


HOSTILE = {
    # the form
    "empty": lambda f: "",
    "one word": lambda f: "token",
    "two segments": lambda f: ".".join(f.parts[:2]),
    "no signature": lambda f: ".".join(f.parts[:2]) + ".",
    "four segments": lambda f: f.genuine + ".x",
    "five segments as in JWE": lambda f: f"{f.genuine}.a.b",
    "an empty segment": lambda f: f.with_an_empty_segment(),
    "oversized": lambda f: f.claims_with(jti="x" * 3000),
    "padding kept": lambda f: f.genuine + "=",
    "a character of standard base64": lambda f: f"{f.genuine[:-1]}/",
    "a space inside": lambda f: f.genuine.replace(".", ". ", 1),
    "a tab before it": lambda f: "\t" + f.genuine,
    "two tokens": lambda f: f"{f.genuine},Bearer {f.genuine}",
    "not ASCII": lambda f: f.genuine + "\xe9",
    "signature spelled differently": lambda f: f.respelled(2),
    "header of a length that base64 has not": lambda f: "AAAAA." + ".".join(f.parts[1:]),
    # the header
    "header is not JSON": lambda f: f.sign(header=b"{"),
    "header is a list": lambda f: f.sign(header=list(f.header.items())),
    "header is a number": lambda f: f.sign(header=7),
    "header is null": lambda f: f.sign(header=b"null"),
    "header is a string": lambda f: f.sign(header="abc"),
    "header is UTF-16": lambda f: f.sign(header=json.dumps(f.header).encode("utf-16")),
    "header with a byte order mark": lambda f: f.sign(header=b"\xef\xbb\xbf" + as_json(f.header)),
    "header is not UTF-8": lambda f: f.sign(header=b"\xff\xfe{}"),
    "deeply nested header": lambda f: f.sign(header=b"[" * 1200),
    "deeply nested objects": lambda f: f.sign(header=b'{"a":' * 250),
    "kid twice": lambda f: f.sign(header=as_json(f.header)[:-1] + f',"kid":"{f.header["kid"]}"}}'.encode()),
    "alg twice": lambda f: f.sign(header=b'{"alg":"none",' + as_json(f.header)[1:]),
    "kid missing": lambda f: f.sign(header={"alg": "HS256", "typ": "JWT"}),
    "kid is a number": lambda f: f.header_with(kid=1),
    "kid is a list": lambda f: f.header_with(kid=[f.header["kid"]]),
    "kid is an object": lambda f: f.header_with(kid={"a": 1}),
    "kid is null": lambda f: f.header_with(kid=None),
    "kid is a path": lambda f: f.header_with(kid="../../../../dev/null"),
    "kid is SQL": lambda f: f.header_with(kid="' UNION SELECT 'x' -- "),
    "kid with a NUL": lambda f: f.header_with(kid=f.header["kid"] + "\0"),
    "kid with a newline": lambda f: f.header_with(kid=f.header["kid"] + "\n"),
    "kid in upper case": lambda f: f.header_with(kid=f.header["kid"].upper()),
    "kid with hyphens": lambda f: f.header_with(kid=f"{uuid.UUID(f.tenant)}.1"),
    "kid with digits of another script": lambda f: f.header_with(kid=f"{f.tenant}.\u0661"),
    "unknown key number": lambda f: f.header_with(kid=f"{f.tenant}.2"),
    "key number with a leading zero": lambda f: f.header_with(kid=f"{f.tenant}.01"),
    "key number minus one": lambda f: f.header_with(kid=f"{f.tenant}.-1"),
    "unknown tenant": lambda f: f.header_with(kid=f"{uuid.uuid4().hex}.1"),
    "the slug as tenant": lambda f: f.header_with(kid="acme.1"),
    "the other tenant's kid": lambda f: f.header_with(kid=f"{f.other}.1"),
    "the other tenant's key": lambda f: f.sign(key=f.other_key),
    "typ of a refresh token": lambda f: f.header_with(typ="refresh"),
    "typ in lower case": lambda f: f.header_with(typ="jwt"),
    "typ missing": lambda f: f.sign(header={"alg": "HS256", "kid": f.header["kid"]}),
    "an embedded key": lambda f: f.header_with(jwk={"kty": "oct", "k": b64(b"k" * 32)}),
    "a key's address": lambda f: f.header_with(jku="http://127.0.0.1:1/keys"),
    "a certificate's address": lambda f: f.header_with(x5u="http://127.0.0.1:1/cert"),
    "critical extensions": lambda f: f.header_with(crit=["exp"]),
    "unencoded payload": lambda f: f.header_with(b64=False, crit=["b64"]),
    "compression": lambda f: f.header_with(zip="DEF"),
    "nested token": lambda f: f.header_with(cty="JWT"),
    # the algorithm
    "alg none": lambda f: f"{b64(as_json(f.header | {'alg': 'none'}))}.{f.parts[1]}.",
    "alg none with a signature": lambda f: f.header_with(alg="none"),
    "alg None": lambda f: f.header_with(alg="None"),
    "alg nOnE": lambda f: f.header_with(alg="nOnE"),
    "alg empty": lambda f: f.header_with(alg=""),
    "alg null": lambda f: f.header_with(alg=None),
    "alg a list": lambda f: f.header_with(alg=["HS256"]),
    "alg in lower case": lambda f: f.header_with(alg="hs256"),
    "HS384 with the right key": lambda f: f.sign(header=f.header | {"alg": "HS384"}, digest=hashlib.sha384),
    "HS512 with the right key": lambda f: f.sign(header=f.header | {"alg": "HS512"}, digest=hashlib.sha512),
    "RS256 with a key of its own": lambda f: f.rsa_signed(),
    "RS256's public key as HMAC secret": lambda f: f.sign(header=f.header | {"alg": "RS256"}, key=RSA_PUBLIC),
    "a public key as HMAC secret": lambda f: f.sign(key=RSA_PUBLIC),
    # the signature
    "a changed signature": lambda f: f"{'.'.join(f.parts[:2])}.{b64(b'x' * 32)}",
    "a shortened signature": lambda f: f.genuine[:-4],
    "another's payload": lambda f: f"{f.parts[0]}.{b64(as_json(f.claims | {'sub': str(uuid.uuid4())}))}.{f.parts[2]}",
    "the empty key": lambda f: f.sign(key=b"\0"),
    "the key that its key is made from": lambda f: f.sign(key=f.root_key),
    "the key of another purpose": lambda f: f.sign(key=f.job_key),
    "the key of another generation": lambda f: f.sign(key=f.key_after_a_restore),
    "the key in hexadecimal": lambda f: f.sign(key=f.key.hex().encode()),
    "simplejwt's process-wide key": lambda f: f.globally_signed(),
    "simplejwt's key under our kid": lambda f: f"{f.parts[0]}.{'.'.join(f.globally_signed().split('.')[1:])}",
    # the claims, signed with acme's own key
    "payload is not JSON": lambda f: f.sign(claims=b"{"),
    "payload is a list": lambda f: f.sign(claims=list(f.claims.items())),
    "payload nested deeply": lambda f: f.sign(claims=b"[" * 1200),
    "payload is UTF-16": lambda f: f.sign(claims=json.dumps(f.claims).encode("utf-16")),
    "a claim twice": lambda f: f.sign(claims=as_json(f.claims)[:-1] + f',"sub":"{f.user.pk}"}}'.encode()),
    "a claim too many": lambda f: f.claims_with(role="owner"),
    "expired": lambda f: f.claims_with(iat=f.now - 601, exp=f.now - 1),
    "issued in the future": lambda f: f.claims_with(iat=f.now + 3600, exp=f.now + 4000),
    "never expires": lambda f: f.without("exp"),
    "lives for too long": lambda f: f.claims_with(exp=f.now + 86400),
    "lives backwards": lambda f: f.claims_with(iat=f.now - 10, exp=f.now - 20),
    "lives backwards between two clocks": lambda f: f.claims_with(iat=f.now + 9, exp=f.now + 8),
    "exp is a string": lambda f: f.claims_with(exp=str(f.now + 60)),
    "exp is a float": lambda f: f.claims_with(exp=f.now + 60.5),
    "exp is infinite": lambda f: f.sign(claims=as_json(f.claims | {"exp": 0}).replace(b'"exp":0', b'"exp":1e999')),
    "exp is not a number": lambda f: f.sign(claims=as_json(f.claims | {"exp": 0}).replace(b'"exp":0', b'"exp":NaN')),
    "exp is true": lambda f: f.claims_with(exp=True),
    "exp is huge": lambda f: f.claims_with(iat=10**300, exp=10**300 + 60),
    "iat is null": lambda f: f.claims_with(iat=None),
    "another audience": lambda f: f.claims_with(aud="bulkhead"),
    "a list of audiences": lambda f: f.claims_with(aud=["bulkhead-api", "other"]),
    "no audience": lambda f: f.without("aud"),
    "another issuer": lambda f: f.claims_with(iss=f"bulkhead:{f.other}"),
    "issuer's prefix": lambda f: f.claims_with(iss="bulkhead:"),
    "issuer with something behind it": lambda f: f.claims_with(iss=f.claims["iss"] + ".example"),
    "the other tenant's claim": lambda f: f.claims_with(tenant=f.other),
    "tenant claim missing": lambda f: f.without("tenant"),
    "tenant claim is a list": lambda f: f.claims_with(tenant=[f.tenant]),
    "a refresh token": lambda f: f.refresh,
    "another type": lambda f: f.claims_with(token_type="sliding"),
    "type is a list": lambda f: f.claims_with(token_type=["access"]),
    "type missing": lambda f: f.without("token_type"),
    "log-in missing": lambda f: f.without("login"),
    "log-in is no UUID": lambda f: f.claims_with(login="1"),
    "log-in is a list": lambda f: f.claims_with(login=[f.claims["login"]]),
    "generation missing": lambda f: f.without("generation"),
    "generation is a string": lambda f: f.claims_with(generation="1"),
    "generation is zero": lambda f: f.claims_with(generation=0),
    "generation is huge": lambda f: f.claims_with(generation=2**63),
    "no id": lambda f: f.claims_with(jti=""),
    "subject is a number": lambda f: f.claims_with(sub=1),
    "subject is no UUID": lambda f: f.claims_with(sub="alice"),
    "subject with a NUL": lambda f: f.claims_with(sub=f"{f.user.pk}\0"),
    "subject in braces": lambda f: f.claims_with(sub=f"{{{f.user.pk}}}"),
    "subject is nobody": lambda f: f.claims_with(sub=str(uuid.uuid4())),
    "subject is an object": lambda f: f.claims_with(sub={"pk": str(f.user.pk)}),
}  # fmt: skip
