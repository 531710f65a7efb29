"""A provider that answers as it is told to, on loopback: as a good one until something is changed."""

import json
import threading
import time
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

CLIENT_ID, CLIENT_SECRET = "bulkhead", "the client's secret"
KID = "first"


@cache
def rsa_key(name: str = "its own", bits: int = 2048):
    return rsa.generate_private_key(65537, bits)


@cache
def ec_key():
    return ec.generate_private_key(ec.SECP256R1())


def pem(key) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def jwk(key, **more) -> dict:
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return algorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": KID, "use": "sig"} | more


class HostileProvider:
    """``answers[path]`` replaces what it says there: content, or a function of the handler. ``token`` makes tokens."""

    def __init__(self):
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.provider = self
        self.server.daemon_threads = True
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"
        self.keys, self.answers, self.asked = [jwk(rsa_key())], {}, []
        self.nonce, self.was_cut_off = "", threading.Event()
        self.token = self.good_token

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()

    def claims(self, **changes) -> dict:
        """A change to ``None`` takes the claim out."""
        now = int(time.time())
        claims = {
            "iss": self.issuer, "sub": "subject-1", "aud": CLIENT_ID, "nonce": self.nonce, "iat": now, "exp": now + 300,
            "email": "ann@acme.example", "email_verified": True,
        }  # fmt: skip
        return {name: value for name, value in (claims | changes).items() if value is not None}

    def good_token(self, key=None, alg="RS256", header=None, **changes) -> str:
        headers = {"kid": KID} | (header or {})
        return jwt.encode(self.claims(**changes), key or rsa_key(), alg, headers=headers)

    def discovery(self) -> dict:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
        }

    def answer(self, path: str):
        if path in self.answers:
            return self.answers[path]
        return {
            "/.well-known/openid-configuration": self.discovery,
            "/token": lambda: {"access_token": "x", "token_type": "Bearer", "id_token": self.token()},
            "/keys": lambda: {"keys": self.keys},
        }.get(path, dict)()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        provider = self.server.provider
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        provider.asked.append((self.command, self.path, dict(self.headers), parse_qs(body)))
        answer = provider.answer(self.path)
        if callable(answer):
            answer(self)
        else:
            self.say(answer if isinstance(answer, bytes) else json.dumps(answer).encode())

    do_POST = do_GET

    def say(self, content: bytes, status: int = 200, **headers: str):
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(content))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass
