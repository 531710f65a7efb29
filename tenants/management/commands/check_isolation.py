from json import dumps
from pathlib import Path

from django.core.management.base import CommandError
from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

from tenants.isolation import KINDS, Remark, Report, check_isolation
from tenants.management.base import TenancyCommand


class Command(TenancyCommand):
    help = "Check a live installation for cracks in the isolation of its tenants. It only reads."
    example = "check_isolation --textfile /var/lib/node_exporter/bulkhead.prom"
    requires_system_checks = []  # they are among what is reported

    def add_arguments(self, parser):
        parser.add_argument("--json", action="store_true", help="a JSON object instead of a table")
        parser.add_argument("--textfile", type=Path, metavar="PATH", help="also write metrics for Prometheus, at once")

    def handle(self, json: bool, textfile: Path | None, **options):
        if textfile is not None and not textfile.absolute().parent.is_dir():
            raise CommandError(f"There is no directory {textfile.parent} to write metrics into.")
        report = check_isolation()
        if textfile is not None:
            _write_metrics(report, textfile)
        self.stdout.write(_as_json(report) if json else _as_table(report))
        if not report.is_ok:
            raise CommandError(_result(report))


def _rows(report: Report) -> list[tuple[str, int, int, int]]:
    def count(remarks: list[Remark], kind: str) -> int:
        return sum(remark.kind == kind for remark in remarks)

    return [(kind, report.checked[kind], count(report.cracks, kind), count(report.unchecked, kind)) for kind in KINDS]


def _as_table(report: Report) -> str:
    lines = [f"{'kind':<14} {'checked':>8} {'cracks':>8} {'unchecked':>10}"]
    lines += [
        f"{kind:<14} {checked:>8} {cracks:>8} {unchecked:>10}" for kind, checked, cracks, unchecked in _rows(report)
    ]
    named = {"crack": report.cracks, "unchecked": report.unchecked, "warning": report.warnings}
    for word, remarks in named.items():
        lines += [f"{word}: {remark.kind}: {remark.about}: {remark.sentence}" for remark in remarks]
    return "\n".join([*lines, _result(report)])


def _result(report: Report) -> str:
    where = f"{report.tenants} tenants in {report.seconds:.1f} s"
    return f"{where}: {len(report.cracks)} cracks, {len(report.unchecked)} unchecked."


def _as_json(report: Report) -> str:
    def objects(remarks: list[Remark]) -> list[dict]:
        return [{"kind": each.kind, "about": each.about, "sentence": each.sentence} for each in remarks]

    kinds = {
        kind: {"checked": checked, "cracks": cracks, "unchecked": unchecked}
        for kind, checked, cracks, unchecked in _rows(report)
    }
    return dumps(
        {
            "ok": report.is_ok,
            "tenants": report.tenants,
            "seconds": round(report.seconds, 3),
            "kinds": kinds,
            "cracks": objects(report.cracks),
            "unchecked": objects(report.unchecked),
            "warnings": objects(report.warnings),
        },
        indent=2,
    )


def _write_metrics(report: Report, path: Path) -> None:
    """Without slugs: whoever reads metrics need not know who the customers are."""
    registry = CollectorRegistry()

    def gauge(name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"bulkhead_isolation_{name}", text, labels, registry=registry)

    gauge("ok", "1 if everything was checked and no crack was found").set(report.is_ok)
    gauge("tenants", "tenants with a database").set(report.tenants)
    gauge("duration_seconds", "how long the check took").set(report.seconds)
    gauge("timestamp_seconds", "when the check ended").set_to_current_time()
    by_kind = [
        gauge("checks", "what was checked, by kind", "kind"),
        gauge("cracks", "cracks found, by kind", "kind"),
        gauge("unchecked", "what could not be checked, by kind", "kind"),
    ]
    for kind, *counts in _rows(report):
        for metric, count in zip(by_kind, counts, strict=True):
            metric.labels(kind).set(count)
    try:
        write_to_textfile(str(path), registry)
    except OSError as error:
        raise CommandError(f"The metrics cannot be written: {error}.") from error
