"""What each role may do, as docs/reference/roles.md says."""

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs/reference/roles.md"
ROLES = ["owner", "manager", "tester", "reader", "auditor"]
SUPPORT = ["support", "support-full"]  # no account's: an operator's, while an owner's grant stands
ACTIONS = ["view", "add", "change", "delete", "revoke", "grant", "steer"]
Cells = dict[tuple[str, str], set[str]]  # role and resource: actions


def read_cells(columns: list[str]) -> Cells:
    """Of the table with these columns."""
    cells: Cells = {}
    for line in PAGE.read_text().splitlines():
        if (row := re.fullmatch(r"\| `(\w+\.\w+)` \|(.*)\|", line)) and row[2].count("|") == len(columns) - 1:
            for role, cell in zip(columns, row[2].split("|"), strict=True):
                assert (role, row[1]) not in cells, line
                cells[role, row[1]] = set(cell.split()) - {"–"}
    return cells


MEMBERS, OPERATORS = read_cells([*ROLES, *SUPPORT]), read_cells(["operator"])
