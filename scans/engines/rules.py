"""Rules that more than one engine can find, defined once, so that what two engines say of one weakness is joined."""

from scans.engines.base import FindingEvent, Rule, rule_table

OPEN_PORT = Rule(
    "port.open",
    "A port other than a web port is open",
    "info",
    1125,
    "Close the port, or let only those who need it reach it.",
)
TELNET = Rule(
    "service.telnet",
    "Telnet: passwords and sessions in clear text",
    "high",
    319,
    "Switch Telnet off and use SSH.",
)
FTP = Rule(
    "service.ftp",
    "FTP: passwords and files in clear text",
    "medium",
    319,
    "Replace FTP by SFTP, or refuse log-ins before AUTH TLS.",
)
MYSQL = Rule(
    "service.mysql-exposed",
    "A MySQL or MariaDB server can be reached from the scanner's network",
    "medium",
    668,
    "Bind the database to a private interface, or admit only the application's hosts.",
)

SERVICE_RULES = rule_table(OPEN_PORT, TELNET, FTP, MYSQL)

TLS10 = Rule(
    "tls.version.tls10",
    "TLS 1.0 is accepted",
    "medium",
    326,
    "Accept TLS 1.2 and 1.3 only.",
)
TLS11 = Rule(
    "tls.version.tls11",
    "TLS 1.1 is accepted",
    "medium",
    326,
    "Accept TLS 1.2 and 1.3 only.",
)
NULL_CIPHER = Rule(
    "tls.cipher.null",
    "Cipher suites without encryption are accepted",
    "high",
    319,
    "Remove NULL suites from the server's list.",
)
ANONYMOUS_CIPHER = Rule(
    "tls.cipher.anonymous",
    "Cipher suites without authentication are accepted",
    "high",
    322,
    "Remove anonymous (ADH, AECDH) suites from the server's list.",
)
NO_FORWARD_SECRECY = Rule(
    "tls.cipher.no-forward-secrecy",
    "Cipher suites without forward secrecy are accepted",
    "low",
    326,
    "Accept only suites with an ephemeral key exchange (ECDHE or DHE).",
)

TLS_RULES = rule_table(TLS10, TLS11, NULL_CIPHER, ANONYMOUS_CIPHER, NO_FORWARD_SECRECY)


def service_finding(rule: Rule, port: int, evidence: str, confidence: str) -> FindingEvent:
    """The same identity whoever finds it."""
    return FindingEvent(rule.key, "tcp", port, "", "", "", "service", evidence, confidence)


def tls_finding(rule: Rule, port: int, evidence: str, confidence: str = "verified") -> FindingEvent:
    return FindingEvent(rule.key, "tls", port, "", "", "", "handshake", evidence, confidence)
