"""nmap's XML, read as hostile input: no entities, bounded in every direction, and only believed when complete."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

MAX_BYTES = 16 * 1024 * 1024
MAX_ELEMENTS = 200_000
MAX_DEPTH = 32


class NmapOutputError(ValueError):
    """Output that proves nothing: cut off, not XML, or not what nmap writes at the end of a good run."""


@dataclass(frozen=True)
class Service:
    """``is_identified``: by its answers, and not by its port's number. ``tls_ciphers``: by protocol version."""

    state: str
    name: str = ""
    product: str = ""
    is_identified: bool = False
    is_tls: bool = False
    fingerprint: str = ""
    tls_ciphers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def parse_nmap(xml: bytes) -> dict[tuple[str, int], Service]:
    """By address and port. What nmap gave up on is missing, as are ports that it lumps together as not closed."""
    if len(xml) > MAX_BYTES:
        raise NmapOutputError("the output is too long")
    root = _parse(xml)
    finished = root.find("runstats/finished")
    if root.tag != "nmaprun" or finished is None or finished.get("exit") != "success":
        raise NmapOutputError("the run did not end well")
    services: dict[tuple[str, int], Service] = {}
    for host in root.findall("host"):
        address = host.find("address")
        if address is None or host.get("timedout") == "true":
            continue
        for port in host.findall("ports/port"):
            services[address.get("addr", ""), _number(port.get("portid", ""))] = _service(port)
        # Closed ports are lumped together when there are many; only then is an unnamed port known to be closed.
        lumps = {lump.get("state") for lump in host.findall("ports/extraports")}
        if lumps == {"closed"}:
            services[address.get("addr", ""), 0] = Service("closed")
    return services


def _service(port: Element) -> Service:
    state = port.find("state")
    service = port.find("service")
    found = service.attrib if service is not None else {}
    return Service(
        state=state.get("state", "") if state is not None else "",
        name=found.get("name", ""),
        product=" ".join(filter(None, (found.get("product"), found.get("version")))),
        is_identified=found.get("method") == "probed",
        is_tls=found.get("tunnel") == "ssl",
        fingerprint=found.get("servicefp", ""),
        tls_ciphers=_ciphers(port),
    )


def _ciphers(port: Element) -> dict[str, tuple[str, ...]]:
    tables = port.findall("script[@id='ssl-enum-ciphers']/table")
    return {
        table.get("key", ""): tuple(name.text or "" for name in table.findall("table/table/elem[@key='name']"))
        for table in tables
    }


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise NmapOutputError("a port is not a number")
    return int(text)


def _parse(xml: bytes) -> Element:
    builder = TreeBuilder()
    parser = expat.ParserCreate()
    counts = {"elements": 0, "depth": 0}

    def start(tag: str, attributes: dict[str, str]) -> None:
        counts["elements"] += 1
        counts["depth"] += 1
        if counts["elements"] > MAX_ELEMENTS or counts["depth"] > MAX_DEPTH:
            raise NmapOutputError("too many or too deeply nested elements")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        counts["depth"] -= 1
        builder.end(tag)

    def doctype(name: str, system: str | None, public: str | None, has_subset: int) -> None:
        if has_subset or system or public:
            raise NmapOutputError("a document type with content")  # nmap writes <!DOCTYPE nmaprun>, harmless

    def refuse(*_: object) -> int:
        raise NmapOutputError("an entity")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = doctype
    parser.EntityDeclHandler = refuse
    parser.ExternalEntityRefHandler = refuse
    try:
        parser.Parse(xml, True)
        return builder.close()
    except (expat.ExpatError, AssertionError) as error:
        raise NmapOutputError("the output is not complete XML") from error
