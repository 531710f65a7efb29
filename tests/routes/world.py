"""Two tenants and control with a row of everything, each text a canary, and people who look alike in all three."""

import time
from datetime import timedelta
from http.cookies import SimpleCookie
from uuid import NAMESPACE_DNS, uuid5

from django.apps import apps
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.auth import get_user_model, login
from django.contrib.auth.models import Group
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.backends.db import SessionStore
from django.db import connection, models
from django.http import HttpRequest
from django.test import Client
from django.test.client import ClientHandler
from django.utils import timezone

from scans.models import (
    Authorization,
    Finding,
    IdempotencyKey,
    Occurrence,
    Scan,
    ScanCounter,
    ScanEvent,
    ScanProfile,
    ScanRun,
    Target,
    TaskQueue,
)
from tenants.accounts.models import (
    ApiKey,
    ExternalIdentity,
    IdentityProvider,
    MailLink,
    Passkey,
    RecoveryCode,
    SecondFactor,
    SignInPolicy,
    SupportAccess,
    Tries,
)
from tenants.audit.models import AuditEvent
from tenants.context import control_plane, tenant_context
from tenants.exceptions import TenantError
from tenants.models import DatabaseServer, LifecycleEvent, Tenant
from tenants.planes import here
from tenants.tokens import TenantRefreshToken

MISSING = "01890000-0000-7000-8000-000000000000"
SERVER, MISSING_SERVER = "7000001", "7000002"  # counted keys, long enough to be told from other numbers
CANARIES = {"acme": "canaryacme", "globex": "canaryglobex", "control": "canaryoper"}
# What a text is read as, and would not be read if it were a canary.
NOT_PLANTED = {
    "accounts.User": {"password"},
    "scans.ScanRun": {"engine"},
    "scans.Finding": {"fingerprint"},
    "admin.LogEntry": {"object_id"},
}


def texts(model: type[models.Model], canary: str) -> dict[str, str]:
    """Every free text of the model, filled with the canary as far as it fits."""
    fields = [field for field in model._meta.concrete_fields if isinstance(field, models.CharField | models.TextField)]
    kept = NOT_PLANTED.get(model._meta.label, set())
    found = {field.name: canary[: field.max_length] for field in fields if not field.choices and field.name not in kept}
    return found | {field.name: f"{canary}@example.com" for field in fields if isinstance(field, models.EmailField)}


def plant_support(user, canary: str) -> SupportAccess:
    """One that is asked for; beside it another, and one that is granted."""
    now = timezone.now()
    fields = texts(SupportAccess, canary) | {"database": here(), "hours_asked": 1, "asked_at": now}
    fields |= {"expires_at": now + timedelta(hours=8)}
    for number, more in enumerate(({}, {"scope": "read", "granted_at": now, "granted_by": user})):
        operator = uuid5(NAMESPACE_DNS, str(number))
        other = get_user_model().objects.create(username=f"{canary}{number}", operator=operator, is_active=False)
        SupportAccess.objects.create(user=other, **fields, **more)
    return SupportAccess.objects.create(user=user, **fields)


SLUGS = {"acme": "acmf", "globex": "globey"}  # to each tenant's slug one of its length that nobody has
SESSION_COOKIES = ["sessionid", *(f"sessionid_{plane}" for plane in [*SLUGS, *SLUGS.values(), "operator"])]
HANDLERS = {strict: ClientHandler(strict) for strict in (False, True)}  # loads the middleware once, not once a client


class World:
    """``ids[plane][kind]``: the planted row of each plane. ``client(persona)`` sends all that the persona holds."""

    def __init__(self):
        self.number = 0
        self.ids: dict[str, dict[str, str]] = {}
        self.users, self.sessions, self.tokens = {}, {}, {}
        for slug in ("acme", "globex"):
            with tenant_context(slug):
                self._plant(slug)
        self._add_twins()
        self._plant_control()
        self._open_sessions()

    def _plant(self, slug: str) -> None:
        canary = CANARIES[slug]
        user = get_user_model().objects.create(is_invited=True, **texts(get_user_model(), canary))
        Group.objects.create(name=canary).user_set.add(user)
        LogEntry.objects.create(
            user=user,
            content_type=ContentType.objects.get_for_model(Target),
            object_id=MISSING,
            action_flag=2,
            **texts(LogEntry, canary),
        )
        Tries.objects.create(
            kind="account", allowed_at=timezone.now(), expires_at=timezone.now(), **texts(Tries, canary)
        )
        SecondFactor.objects.create(user=user, **texts(SecondFactor, canary))  # not confirmed: it asks nothing
        RecoveryCode.objects.create(user=user, **texts(RecoveryCode, canary))
        Passkey.objects.create(user=user, **texts(Passkey, canary))  # of another database: it opens nothing
        ExternalIdentity.objects.create(user=user, **texts(ExternalIdentity, canary))
        IdentityProvider.objects.create(**texts(IdentityProvider, canary))  # not in use
        SignInPolicy.objects.create(**texts(SignInPolicy, canary))
        MailLink.objects.create(purpose="reset", expires_at=timezone.now(), **texts(MailLink, canary))
        target = Target.objects.create(ports=[80, 443], created_by=user, **texts(Target, canary))
        authorization = Authorization.objects.create(
            target=target,
            created_by=user,
            expires_at=timezone.now() + timedelta(days=7),
            **texts(Authorization, canary),
        )
        profile = ScanProfile.objects.create(engines={"ports": {}}, **texts(ScanProfile, canary))
        number = ScanCounter.next()
        scan = Scan.objects.create(
            moves=1, number=number, target=target, profile=profile, created_by=user, **texts(Scan, canary)
        )
        TaskQueue.objects.create(task_id=number)
        ScanEvent.objects.create(scan=scan, sequence=1, state="queued", by=user, **texts(ScanEvent, canary))
        IdempotencyKey.objects.create(created_by=user, answer={"canary": canary}, **texts(IdempotencyKey, canary))
        run = ScanRun.objects.create(
            scan=scan,
            engine="ports",
            fence=1,
            argv=[canary],
            coverage=[[canary, 80]],
            not_covered=[[canary, 443, canary]],
            **texts(ScanRun, canary),
        )
        finding = Finding.objects.create(
            target=target,
            fingerprint=Finding.fingerprint_of(target.pk),
            severity="high",
            port=443,
            last_seen_at=timezone.now(),
            **texts(Finding, canary),
        )
        occurrence = Occurrence.objects.create(finding=finding, run=run, **texts(Occurrence, canary))
        key = ApiKey.objects.create(user=user, expires_at=timezone.now() + timedelta(days=7), **texts(ApiKey, canary))
        access = plant_support(user, canary)
        event = AuditEvent.objects.get(object_id=str(target.pk))  # which holds what the target does
        rows = [user, key, access, target, authorization, profile, scan, run, finding, occurrence, event]
        self.ids[slug] = {row._meta.model_name: str(row.pk) for row in rows}
        self.content_type = str(ContentType.objects.get_for_model(type(user)).pk)  # the same in both

    def version(self, plane: str, kind: str) -> int:
        """The one that a person would have read, while there was something to read."""
        try:
            with binding_of(plane):
                return {"user": get_user_model(), "target": Target}[kind].objects.get(pk=self.ids[plane][kind]).version
        except TenantError:
            return 1

    def next(self) -> int:
        """For names that must be new."""
        self.number += 1
        return self.number

    def _add_twins(self) -> None:
        """In globex and in control somebody with the key, the name and the password of acme's owner."""
        User = get_user_model()
        with tenant_context("acme"):
            self.users["owner"] = User.objects.get(username="alice")
            self.users["tester"] = User.objects.get(username="tom")
        owner = self.users["owner"]
        fields = {"id": owner.pk, "username": owner.username, "password": owner.password, "role": "owner"}
        with tenant_context("globex"):
            self.users["twin"] = User.objects.create(**fields)
        with control_plane():
            self.users["operator"] = User.objects.create(**fields)

    def _plant_control(self) -> None:
        canary = CANARIES["control"]
        with control_plane():
            user = get_user_model().objects.create(**texts(get_user_model(), canary))
            tenant = Tenant.objects.get(slug="globex")
            fields = {"id": SERVER, "engine": "sqlite", "port": 1} | texts(DatabaseServer, canary)
            server = DatabaseServer.objects.create(**fields)
            LifecycleEvent.objects.create(tenant=tenant, action="migrate", **texts(LifecycleEvent, canary))
            Tenant.objects.filter(slug="globex").update(limits={canary: 1})
            event = AuditEvent.objects.get(object_id=str(server.pk))
            self.ids["control"] = {row._meta.model_name: str(row.pk) for row in (user, tenant, server, event)}

    def _open_sessions(self) -> None:
        for persona, user in self.users.items():
            with binding_of(HOMES[persona]):
                request = HttpRequest()
                request.session = SessionStore()
                login(request, user, "tenants.accounts.backends.PlaneBackend")
                request.session["began_at"] = request.session["written_at"] = time.time()
                request.session.save()
                self.sessions[persona] = request.session.session_key
            if persona != "operator":
                self.tokens[persona] = self.new_tokens(persona)

    def new_tokens(self, persona: str) -> dict[str, str]:
        """Of a log-in of their own: a refresh token works once."""
        with tenant_context(HOMES[persona]):
            refresh = TenantRefreshToken.for_user(self.users[persona])
            return {"access": str(refresh.access_token), "refresh": str(refresh)}

    def client(self, persona: str, enforce_csrf_checks: bool = False) -> Client:
        """
        All that the persona holds, wherever it might be believed: the token, and the session under every plane's name.
        """
        client = Client(raise_request_exception=False)
        client.handler = HANDLERS[enforce_csrf_checks]
        if token := self.tokens.get(persona):
            client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {token['access']}"
        client.cookies = self.cookies(persona)
        return client

    def cookies(self, persona: str) -> SimpleCookie:
        session = self.sessions.get(persona)
        return SimpleCookie(dict.fromkeys(SESSION_COOKIES, session) if session else {})

    def foreign_to(self, persona: str) -> list[str]:
        """What an answer to the persona must never hold: other planes' texts and keys."""
        home = HOMES[persona]
        found = [canary for plane, canary in CANARIES.items() if plane != home]
        for plane, ids in self.ids.items():
            if plane != home:
                found += [pk for kind, pk in ids.items() if kind != "tenant"]
        return found


HOMES = {"owner": "acme", "tester": "acme", "twin": "globex", "operator": "control", "anonymous": ""}
# From the one who may least to the one who may most, so that each finds what it asks for.
PERSONAS = ["anonymous", "operator", "twin", "tester", "owner"]


def binding_of(plane: str):
    return control_plane() if plane == "control" else tenant_context(plane)


def contents(plane: str) -> dict[str, list]:
    """Every row of every table of the plane's database."""
    with binding_of(plane), connection.cursor() as cursor:
        tables = sorted(connection.introspection.table_names(cursor))
        found = {}
        for table in tables:
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            # Who asks for a scan moves their tenant's hint for the dispatchers, and nothing else of control.
            shown = [number for number, column in enumerate(cursor.description) if column[0] != "look_at"]
            found[table] = sorted(repr([row[number] for number in shown]) for row in cursor.fetchall())
        return found


def recorded(plane: str) -> list[str]:
    """What the plane's audit says was done, oldest first."""
    with binding_of(plane):
        return list(AuditEvent.objects.order_by("number").values_list("action", flat=True))


def models_without_a_row(slug: str) -> set[str]:
    with tenant_context(slug):
        ours = [model for label in settings.TENANT_APPS for model in apps.get_app_config(label).get_models()]
        return {model._meta.label for model in ours if not model._base_manager.exists()}
