"""Django's settings. Everything that differs between installations comes from ``config.env``."""

from datetime import timedelta

from config.env import PROJECT, read_environment
from config.roles import RIGHTS  # noqa: F401  a setting: who may do what

_env = read_environment()

BASE_DIR = PROJECT

BULKHEAD_HOME = _env.home
BULKHEAD_KEYS = {"runtime": _env.runtime_key, "fleet": _env.fleet_key}
BULKHEAD_ALLOW_LOOPBACK_TARGETS = _env.allow_loopback_targets
BULKHEAD_ALLOW_PRIVATE_TARGETS = _env.allow_private_targets
BULKHEAD_ALLOW_PRIVATE_PROVIDERS = _env.allow_private_providers
BULKHEAD_LEASE_SECONDS = _env.lease_seconds
BULKHEAD_SWEEP_SECONDS = _env.sweep_seconds
BULKHEAD_STREAM_SECONDS = _env.stream_seconds
BULKHEAD_TRUSTED_PROXIES = _env.trusted_proxies
BULKHEAD_REQUESTS_PER_MINUTE = _env.requests_per_minute
BULKHEAD_THREADS = _env.threads  # of a web process: one tenant holds a quarter of them at most
BULKHEAD_PARALLEL_HASHES = _env.parallel_hashes
BULKHEAD_PUBLIC_URL = _env.public_url
MAILERS = {"default": _env.mailer}  # Django's own from 6.1 on
DEFAULT_FROM_EMAIL = _env.mail_from
BULKHEAD_CONNECTION_MAX_AGE = _env.connection_max_age
BULKHEAD_CONNECTIONS_PER_THREAD = 8  # tenant connections kept open, least recently used closed first

# Which plane an app's tables live in. An app with models that stands in neither list is a check error.
CONTROL_APPS = ["tenants", "accounts", "audit", "admin", "auth", "contenttypes", "sessions", "django_rq"]
TENANT_APPS = ["accounts", "audit", "admin", "auth", "contenttypes", "sessions", "scans"]

# Models in tenants' databases with keys that other tenants' rows may have too: Django's, and those where it is meant.
ADOPTED_MODELS = [
    "accounts.User",  # in both planes; its key is a UUIDv7 too
    "admin.LogEntry",
    "audit.AuditHead",
    "auth.Group",
    "auth.Permission",
    "contenttypes.ContentType",
    "sessions.Session",
    "scans.ScanCounter",
    "scans.TaskQueue",  # the numbers that collide are what the design is tested against
]

# What people may change though it has no version, for there is nothing to lose.
UNVERSIONED_MODELS = ["accounts.SignInPolicy"]  # one switch, which is set to what its button says

# How a path finds its plane, first match first; whatever is not listed is unbound.
PLANE_PATHS = [
    ("/api/v1/token/", "unbound"),  # the log-in view binds the tenant that the body names
    ("/api/v1/", "token"),
    ("/t/", "path"),
    ("/operator/", "control"),
    ("/readyz", "control"),
]
TENANT_ERROR_RESPONSE = "config.api.error_response"
TENANT_RETIRE = "tenants.sentinel.end_process"  # for a process in which code has changed its own binding
WORKSPACE_URLCONF = "config.workspace_urls"

INSTALLED_APPS = [
    "tenants",  # first: it replaces the connection handler before anything can use it
    "tenants.accounts",
    "tenants.audit",
    "scans",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_rq",
]

# ``default`` is no database: bound work finds its own plane there, unbound work an error. Tenants are not listed.
DATABASES = {"default": {"ENGINE": "tenants.backends.unbound"}, "control": _env.control_database}
DATABASE_ROUTERS = ["tenants.routers.PlaneRouter"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

MIDDLEWARE = [
    "tenants.request_ids.RequestIDMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "config.headers.HeadersMiddleware",  # outside whatever answers by itself
    "config.refusals.RefusalsMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "config.hosts.OperatorHostMiddleware",
    "tenants.middleware.PlaneMiddleware",  # outside sessions: they live in the plane's database
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "tenants.accounts.sessions.SessionLimitsMiddleware",
    "config.throttles.RequestLimitMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

SECRET_KEY = _env.secret_key
DEBUG = _env.debug
BULKHEAD_OPERATOR_HOST = _env.operator_host
BULKHEAD_METRICS_TOKEN = _env.metrics_token
ALLOWED_HOSTS = [*_env.allowed_hosts, *filter(None, [_env.operator_host])]
ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
ASGI_APPLICATION = "config.asgi.application"
APPEND_SLASH = False
USE_TZ = True
TIME_ZONE = "UTC"
LANGUAGE_CODE = "en"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ]
        },
    }
]

CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "KEY_FUNCTION": "tenants.caches.cache_key",  # every cache needs it: keys of a plane, and none unbound
    }
}

STATIC_URL = "/static/"
WHITENOISE_USE_FINDERS = True  # served from the packages: nothing to collect
WHITENOISE_ALLOW_ALL_ORIGINS = False  # no other site's page has to read them
STORAGES = {
    "default": {"BACKEND": "tenants.storage.PlaneStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["tenants.accounts.backends.PlaneBackend"]
PASSWORD_HASHERS = ["tenants.accounts.hashers.BoundedArgon2"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {
        "NAME": "tenants.accounts.passwords.ContextWordsValidator",  # and the tenant's own name
        "OPTIONS": {"words": ["bulkhead", "pentest", "penetration", "scanner", "security", "operator", "workspace"]},
    },
]

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_AGE = 3600  # seconds since it was last used
BULKHEAD_SESSION_LIFETIME = timedelta(hours=12)  # however much it is used
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = _env.is_https
SECURE_HSTS_SECONDS = 31_536_000 if _env.is_https else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = _env.is_https
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]  # asked by load balancers, inside
if _env.is_https and _env.trusted_proxies:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
X_FRAME_OPTIONS = "DENY"
CSRF_COOKIE_HTTPONLY = True  # the forms carry the token: no script needs the cookie
CSRF_FAILURE_VIEW = "config.api.csrf_failure"
DATA_UPLOAD_MAX_MEMORY_SIZE = 256 * 1024

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["tenants.authentication.PlaneAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["tenants.accounts.roles.RolePermission"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["config.parsers.StrictJSONParser"],
    "DEFAULT_CONTENT_NEGOTIATION_CLASS": "config.parsers.Negotiation",
    "DEFAULT_PAGINATION_CLASS": "config.pagination.Pagination",
    "DEFAULT_METADATA_CLASS": None,  # OPTIONS tells nothing: the schema does
    "URL_FORMAT_OVERRIDE": None,
    "EXCEPTION_HANDLER": "config.api.handle_exception",
    "DEFAULT_SCHEMA_CLASS": "config.schema.Schema",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SIMPLE_JWT = {
    "ACCESS_TOKEN_LIFETIME": timedelta(minutes=10),
    "REFRESH_TOKEN_LIFETIME": timedelta(hours=12),  # each works once; so long may a client be idle
    "USER_ID_CLAIM": "sub",
    "SIGNING_KEY": "",  # tenants.tokens signs; the stock classes would keep what SECRET_KEY was at their import
}
BULKHEAD_LOGIN_LIFETIME = timedelta(days=7)  # however often it is renewed

SPECTACULAR_SETTINGS = {
    "TITLE": "Bulkhead",
    "DESCRIPTION": "Multi-tenant automated penetration testing: a database per customer.",
    "VERSION": "0.1.0",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SERVE_AUTHENTICATION": [],
    "ENUM_NAME_OVERRIDES": {
        "Scope": "tenants.accounts.models.ApiKey.Scope",  # and of a support access: the same words
        "ScanState": "scans.models.Scan.State",
        "FindingState": "scans.models.Finding.State",
    },
    "COMPONENT_SPLIT_PATCH": False,  # what changes something says itself which of its fields it needs
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
}

RQ_QUEUES = {"default": {"URL": _env.redis_url, "DEFAULT_TIMEOUT": 3600, "SERIALIZER": "rq.serializers.JSONSerializer"}}
RQ = {
    "JOB_CLASS": "tenants.jobs.TenantJob",
    "QUEUE_CLASS": "tenants.jobs.TenantQueue",
    "WORKER_CLASS": "tenants.workers.TenantWorker",
    "COMMIT_MODE": "on_db_commit",
}
RQ_SHOW_ADMIN_LINK = False
BULKHEAD_JOB_FUNCTIONS = {"scans.jobs.run_scan"}  # nothing else is ever executed, whatever Redis says

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {
            "()": "config.logs.LineFormatter",
            "format": "{asctime} {levelname} {name} [{request_id} {tenant}] {message}",
            "style": "{",
        }
    },
    "filters": {"request_id": {"()": "tenants.request_ids.RequestIDFilter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["request_id"]}},
    "root": {"handlers": ["stderr"], "level": "INFO"},
}
