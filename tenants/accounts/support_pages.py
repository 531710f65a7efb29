"""Where an operator who was granted access enters the workspace."""

from django.contrib.auth import login
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST
from django.views.decorators.vary import vary_on_cookie

from tenants.accounts.sites import workspace_site
from tenants.accounts.support import enter as use_entry
from tenants.context import current_tenant
from tenants.planes import current


@never_cache
@vary_on_cookie  # where nothing is bound no session is looked for, and the answer would not say so
@csrf_exempt  # the console may be on another host; nobody else has made the token that is sent
@require_POST
def enter(request):
    """What opens nothing is answered alike, for whatever reason and in a tenant that does not exist."""
    user = None
    if current() is not None and current_tenant().state == "active":
        user = use_entry(request.POST.get("entry", ""))
    if user is None:
        context = workspace_site.each_context(request) | {"title": "This entry opens nothing"}
        return TemplateResponse(request, "tenants/support_no_entry.html", context, status=403)
    login(request, user)
    return redirect(reverse("admin:index"))
