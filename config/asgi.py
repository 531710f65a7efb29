import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
# Threads come and go under ASGI, and each would leave its connections behind: none is kept between requests.
os.environ["BULKHEAD_CONNECTION_MAX_AGE"] = "0"

from django.core.asgi import get_asgi_application  # noqa: E402  needs the settings

application = get_asgi_application()

from config.requests import UTF8ASGIRequest  # noqa: E402
from tenants.secrets import give_up_fleet_key  # noqa: E402

application.request_class = UTF8ASGIRequest
give_up_fleet_key()
