"""The expected answers, read from docs/reference/routes.md, and rows written as that page has them."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/routes.md"
COLUMNS = ["owner", "tester", "twin", "operator", "anonymous"]
Answers = dict[str, dict[str, str]]  # method: persona: outcome


def read_table(methods: list[str]) -> dict[str, Answers]:
    """By route. ``others`` in the column of methods means those that no other row of the route names."""
    table: dict[str, Answers] = {}
    for line in PAGE.read_text().splitlines():
        if row := re.fullmatch(r"\| `(/[^`]*)` \| ([A-Z ]+|others) \|(.*)\|", line):
            answers = table.setdefault(row[1], {})
            named = [method for method in methods if method not in answers] if row[2] == "others" else row[2].split()
            cells = [cell.strip() for cell in row[3].split("|")]
            answers |= {method: dict(zip(COLUMNS, cells, strict=True)) for method in named}
    return table


def as_rows(route: str, answers: Answers) -> list[str]:
    """Methods that are answered alike share a row; the row of most methods comes last, as ``others``."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for method, cells in answers.items():
        groups.setdefault(tuple(cells[name] for name in COLUMNS), []).append(method)
    ordered = sorted(groups.items(), key=lambda group: (len(group[1]), group[1]))
    named = [(cells, " ".join(methods)) for cells, methods in ordered[:-1]] + [(ordered[-1][0], "others")]
    return [f"| `{route}` | {methods} | {' | '.join(cells)} |" for cells, methods in named]
