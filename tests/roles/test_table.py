"""The page and the table say the same, and everything there is has a line in both."""

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import get_resolver
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.test import APIRequestFactory
from rest_framework.views import APIView

from tenants.accounts.roles import ACTIONS as BY_METHOD
from tenants.accounts.roles import RolePermission
from tenants.accounts.sites import workspace_site
from tenants.admin import operator_site
from tenants.authentication import Member
from tenants.context import control_plane, tenant_context
from tests.roles.table import ACTIONS, MEMBERS, OPERATORS, ROLES, SUPPORT

PAGES = {"tenant": ([*ROLES, *SUPPORT], MEMBERS), "control": (["operator"], OPERATORS)}
APPS = {"tenant": settings.TENANT_APPS, "control": settings.CONTROL_APPS}
SITES = {"tenant": workspace_site, "control": operator_site}
UNGUARDED = {"/me/": IsAuthenticated, "/token/": None, "/token/refresh/": None, "/token/logout/": None}


def test_the_roles_of_the_page_are_those_that_an_account_can_have():
    assert get_user_model().Role.values == ROLES


@pytest.mark.parametrize("plane", PAGES)
def test_the_page_says_what_the_table_says_cell_by_cell(plane):
    roles, page = PAGES[plane]
    table = {
        (role, resource): {action for action, allowed in actions.items() if role in allowed}
        for resource, actions in settings.RIGHTS[plane].items()
        for role in roles
    }

    assert page == table
    named = {role for actions in settings.RIGHTS[plane].values() for allowed in actions.values() for role in allowed}
    assert named <= set(roles)
    assert {action for actions in settings.RIGHTS[plane].values() for action in actions} <= set(ACTIONS)


@pytest.mark.parametrize("plane", PAGES)
def test_every_model_of_a_plane_has_a_line_in_its_table_and_no_other_has(plane):
    models = [model for label in APPS[plane] for model in apps.get_app_config(label).get_models()]

    assert {model._meta.label_lower for model in models if model._meta.managed} == set(settings.RIGHTS[plane])
    shown = [
        *SITES[plane]._registry,
        *(inline.model for page in SITES[plane]._registry.values() for inline in page.inlines),
    ]
    assert {model._meta.label_lower for model in shown} <= {
        resource for (_, resource), may in PAGES[plane][1].items() if may
    }


def api_views():
    """By path, those of DRF."""

    def walk(patterns, prefix):
        for pattern in patterns:
            path = prefix + str(pattern.pattern)
            if hasattr(pattern, "url_patterns"):
                yield from walk(pattern.url_patterns, path)
            elif hasattr(pattern.callback, "cls"):
                yield path.removeprefix("api/v1"), pattern.callback.cls

    return dict(walk(get_resolver().url_patterns, ""))


def test_every_view_of_the_api_asks_the_table_for_each_of_its_methods():
    views = {path: view for path, view in api_views().items() if not path.startswith("api/")}

    assert len(views) >= 15
    for path, view in views.items():
        if path in UNGUARDED:
            assert view.permission_classes == ([UNGUARDED[path]] if UNGUARDED[path] else [])
        else:
            assert view.permission_classes == [RolePermission], path
            actions = BY_METHOD | getattr(view, "actions", {})
            for method in {name.upper() for name in view.http_method_names if hasattr(view, name)} - {"OPTIONS"}:
                assert settings.RIGHTS["tenant"][view.resource].get(actions[method]), f"{method} {path}"


def test_what_is_open_to_everybody_is_what_is_named_so():
    views = api_views()

    assert {path for path, view in views.items() if view.permission_classes == [AllowAny]} == {
        "api/schema/",
        "api/docs/",
    }
    assert {path for path, view in views.items() if view.permission_classes == []} == set(UNGUARDED) - {"/me/"}


class Forgotten(APIView):
    """A view whose author thought of no roles."""

    def get(self, request):
        raise AssertionError

    post = purge = get
    http_method_names = ("get", "post", "purge")


FORGOTTEN = {
    "no resource": {},
    "a resource that the table has not": {"resource": "scans.target_of_interest"},
    "a resource that is nobody's": {"resource": "scans.taskqueue"},
    "an action that the table has not": {"resource": "scans.target", "actions": {"GET": "purge", "POST": "purge"}},
    "a resource of another plane": {"resource": "tenants.tenant"},
    "half a resource": {"resource": "target"},
}


@pytest.mark.parametrize("method", Forgotten.http_method_names)
@pytest.mark.parametrize("fault", FORGOTTEN.values(), ids=FORGOTTEN)
def test_what_the_table_does_not_say_is_refused_to_owners_too_and_reading_as_well(alice, method, fault):
    view = type("View", (Forgotten,), fault | {"authentication_classes": []})
    request = APIRequestFactory().generic(method.upper(), "/")
    with tenant_context("acme"):
        request.user = request._force_auth_user = Member(str(alice.pk), "owner")
        answer = view.as_view()(request).render()

    assert (answer.status_code, answer.content) == (
        403,
        b'{"code":"permission_denied","detail":"Your role does not allow this."}',
    )


@pytest.mark.parametrize("nobody", [None, AnonymousUser()], ids=["no user", "a visitor"])
def test_who_is_nobody_may_do_nothing(nobody):
    request = APIRequestFactory().get("/")
    request.user = nobody

    assert not RolePermission().has_permission(request, Forgotten())


def permissions():
    """Of every model in every plane, with every action that there is, and some that there are not."""
    labels = {model._meta.label_lower for model in apps.get_models()} | {"scans.ghost", "ghost.target"}
    return [(label, action) for label in sorted(labels) for action in [*ACTIONS, "", "purge"]]


def rights_of(user):
    return {
        (label, action)
        for label, action in permissions()
        if user.has_perm("{}.{action}_{}".format(*label.split("."), action=action))
    }


def documented(cells, role):
    return {(resource, action) for (name, resource), actions in cells.items() if name == role for action in actions}


@pytest.mark.parametrize("role", [*ROLES, "operator", "", "Owner", "own", "ghost"])
def test_a_role_has_the_rights_that_stand_on_the_page_and_in_a_tenant_alone(acme, role):
    User = get_user_model()
    with tenant_context("acme"):
        pk = User.objects.create_user("somebody", role=role).pk
        user = User.objects.get(pk=pk)
        member = Member(str(pk), role)
        with CaptureQueriesContext(connection) as captured:
            assert rights_of(user) == rights_of(member) == documented(MEMBERS, role)
        assert captured.captured_queries == []  # nor is the member read
        modules = {resource.partition(".")[0] for resource, _ in documented(MEMBERS, role)}
        for app in apps.get_app_configs():
            assert user.has_module_perms(app.label) == (app.label in modules)
        assert bool(modules) == (role in ROLES)
    with control_plane():
        pk = User.objects.create_user("somebody", role=role).pk
        assert rights_of(User.objects.get(pk=pk)) == documented(OPERATORS, "operator")


@pytest.mark.parametrize("role", ROLES)
def test_a_disabled_account_has_no_rights_in_either_plane(acme, role):
    User = get_user_model()
    for plane in (tenant_context("acme"), control_plane()):
        with plane:
            pk = User.objects.create_user("somebody", role=role, is_active=False).pk
            user = User.objects.get(pk=pk)
            assert rights_of(user) == set()
            assert not any(user.has_module_perms(app.label) for app in apps.get_app_configs())
