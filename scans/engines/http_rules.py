"""The weaknesses that the ``http`` engine looks for."""

from scans.engines.base import Rule, rule_table

HSTS = Rule(
    "http.header.hsts-missing",
    "No Strict-Transport-Security header",
    "low",
    319,
    "Send Strict-Transport-Security with a max-age of at least one year on every https response.",
)
CSP = Rule(
    "http.header.csp-missing",
    "No Content-Security-Policy header",
    "low",
    693,
    "Send a Content-Security-Policy that names where scripts may come from.",
)
NOSNIFF = Rule(
    "http.header.nosniff-missing",
    "No X-Content-Type-Options header",
    "low",
    693,
    "Send X-Content-Type-Options: nosniff.",
)
FRAMING = Rule(
    "http.header.framing-allowed",
    "Pages can be framed by any site",
    "medium",
    1021,
    "Send Content-Security-Policy: frame-ancestors 'none' (or X-Frame-Options: DENY).",
)
REFERRER = Rule(
    "http.header.referrer-policy-missing",
    "No Referrer-Policy header",
    "info",
    200,
    "Send Referrer-Policy: strict-origin-when-cross-origin, or stricter.",
)
VERSION = Rule(
    "http.header.version-disclosed",
    "The server tells its software version",
    "info",
    497,
    "Remove version numbers from Server and X-Powered-By.",
)

COOKIE_SECURE = Rule(
    "http.cookie.not-secure",
    "Cookie without Secure on an https site",
    "medium",
    614,
    "Set the Secure attribute.",
)
COOKIE_HTTPONLY = Rule(
    "http.cookie.not-httponly",
    "Session cookie readable by scripts",
    "medium",
    1004,
    "Set the HttpOnly attribute.",
)
COOKIE_SAMESITE = Rule(
    "http.cookie.no-samesite",
    "Session cookie without SameSite",
    "low",
    1275,
    "Set SameSite=Lax or SameSite=Strict.",
)

PASSWORD_FORM = Rule(
    "http.form.password-in-clear",
    "A log-in form sends the password in clear text",
    "high",
    319,
    "Serve the form, and what it is sent to, over https only.",
)
ERROR_DETAILS = Rule(
    "http.error-details",
    "Error pages show internals",
    "medium",
    209,
    "Switch debug pages off; log traces instead of sending them.",
)
LISTING = Rule(
    "http.directory-listing",
    "A directory lists its files",
    "medium",
    548,
    "Switch automatic directory indexes off.",
)
REDIRECT = Rule(
    "http.open-redirect",
    "A parameter redirects to any site",
    "medium",
    601,
    "Redirect to paths of this site only, or to an allow-list.",
)
CORS = Rule(
    "http.cors.reflected-credentials",
    "Any site may read answers with the user's credentials (CORS)",
    "high",
    942,
    "Answer Access-Control-Allow-Origin for an allow-list of origins only.",
)
TRACE = Rule(
    "http.method.trace",
    "TRACE is answered",
    "low",
    693,
    "Switch the TRACE method off.",
)
WRITE_METHODS = Rule(
    "http.method.write",
    "The server offers methods that change files",
    "medium",
    650,
    "Allow GET, HEAD and POST only, or protect PUT, DELETE and WebDAV by authentication.",
)
DEFAULT_CREDENTIALS = Rule(
    "http.auth.default-credentials",
    "Well-known credentials are accepted",
    "critical",
    1392,
    "Change the password, and limit the number of log-in attempts.",
)
BASIC_IN_CLEAR = Rule(
    "http.auth.basic-in-clear",
    "Basic authentication over http",
    "medium",
    523,
    "Ask for credentials over https only.",
)

EXPOSED_ENV = Rule(
    "http.exposed.env",
    "An environment file with settings can be read",
    "critical",
    538,
    "Move .env out of the document root, and change every secret in it.",
)
EXPOSED_GIT = Rule(
    "http.exposed.git",
    "The version control directory can be read",
    "high",
    527,
    "Refuse /.git/ and /.svn/, or deploy without them.",
)
EXPOSED_KEY = Rule(
    "http.exposed.private-key",
    "A private key or cloud credential can be read",
    "critical",
    538,
    "Remove the file from the document root, and replace the key.",
)
EXPOSED_DUMP = Rule(
    "http.exposed.database-dump",
    "A database dump can be read",
    "high",
    530,
    "Remove the dump from the document root, and treat its data as disclosed.",
)
EXPOSED_BACKUP = Rule(
    "http.exposed.backup",
    "A backup or source file can be read",
    "high",
    530,
    "Remove the file from the document root.",
)
EXPOSED_STATUS = Rule(
    "http.exposed.status-page",
    "A status page shows internals",
    "medium",
    497,
    "Refuse phpinfo and server-status pages to the public.",
)

HEADER_RULES = rule_table(HSTS, CSP, NOSNIFF, FRAMING, REFERRER, VERSION)
COOKIE_RULES = rule_table(COOKIE_SECURE, COOKIE_HTTPONLY, COOKIE_SAMESITE)
PAGE_RULES = rule_table(PASSWORD_FORM, ERROR_DETAILS)
FILE_RULES = rule_table(EXPOSED_ENV, EXPOSED_GIT, EXPOSED_KEY, EXPOSED_DUMP, EXPOSED_BACKUP, EXPOSED_STATUS)
PROBE_RULES = rule_table(LISTING, REDIRECT, CORS, TRACE, WRITE_METHODS, DEFAULT_CREDENTIALS, BASIC_IN_CLEAR)

RULES = HEADER_RULES | COOKIE_RULES | PAGE_RULES | FILE_RULES | PROBE_RULES
