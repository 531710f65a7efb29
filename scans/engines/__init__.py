"""Engines: one look-alike module each. Target in, findings and coverage out."""

from types import ModuleType

from scans.engines import http, nmap, ports, tls

ENGINES: dict[str, ModuleType] = {engine.NAME: engine for engine in (ports, tls, http, nmap)}
