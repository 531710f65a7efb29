"""The public list, `docs/explanation/hostile-code.md`, as the mechanisms have it: `python -m tests.hostile.listing`."""

import django

django.setup()

from tests.hostile.mechanism import MECHANISMS, OPEN  # noqa: E402
from tests.hostile.mechanisms import PAGES  # noqa: E402

ENGINES = {"sqlite": "SQLite", "mysql": "MariaDB"}


def table(page: str) -> list[str]:
    """One page's mechanisms, with what stops each on which engine."""
    lines = ["| mechanism | what it does | SQLite | MariaDB |", "|---|---|---|---|"]
    for each in MECHANISMS.values():
        if each.page == page:
            stops = [str(each.verdicts.get(engine, "-")) for engine in ENGINES]
            lines.append(f"| {' | '.join((cell(each.name), each.says, *stops))} |")
    return lines


def unstopped() -> list[str]:
    """What no ring stops inside the process, and what holds outside it."""
    lines = ["| mechanism | by | on | what holds then |", "|---|---|---|---|"]
    for each in MECHANISMS.values():
        engines = ", ".join(name for engine, name in ENGINES.items() if each.verdicts.get(engine) == OPEN)
        if engines:
            lines.append(f"| {cell(each.name)} | {', '.join(each.doors)} | {engines} | {each.outer} |")
    return lines


def cell(text: str) -> str:
    return text.replace("__", r"\_\_") if "`" not in text else text


def listing() -> str:
    parts = []
    for page, module in PAGES.items():
        parts += [f"### {(module.__doc__ or '').strip()}", "", *table(page), ""]
    return "\n".join([*parts, "## Not stopped in the process", "", *unstopped()])


if __name__ == "__main__":
    print(listing())
