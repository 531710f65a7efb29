"""All removals: those that are found, and the edits of edits.toml for guards that no ``raise`` marks."""

import tomllib
from pathlib import Path

from tools.guards.removals import Removal, removals

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
FOUND = HERE / "found.toml"


def edits() -> dict[str, dict[str, str]]:
    return tomllib.loads((HERE / "edits.toml").read_text())


def edited(root: Path, name: str, file: str, old: str, new: str) -> Removal:
    """Raises ``ValueError`` unless the source has ``old`` exactly once."""
    path = Path("tenants") / file
    source = (root / path).read_text()
    if source.count(old) != 1:
        raise ValueError(f"{name}: {path} has {source.count(old)} times {old!r}")
    before = source.split(old)[0] + old[: len(old) - len(old.lstrip("\n"))]
    return Removal(f"{file}:{name}", path, before.count("\n") + 1, old.strip(), source.replace(old, new))


def catalogue(root: Path = ROOT) -> list[Removal]:
    return [*removals(root), *(edited(root, name, **edit) for name, edit in edits().items())]


def needless() -> dict[str, str]:
    """By name, the removals that no test can notice, each with its reason."""
    return tomllib.loads((HERE / "needless.toml").read_text())


def found() -> dict[str, str]:
    """By a removal's name, the test that went red without it."""
    return tomllib.loads(FOUND.read_text()) if FOUND.exists() else {}


def write_found(tests: dict[str, str]) -> None:
    lines = [
        "# Which test went red without each guard. Written by `python -m tools.guards --learn`; see CONTRIBUTING.md."
    ]
    lines += [f"{_quoted(name)} = {_quoted(test)}" for name, test in sorted(tests.items())]
    draft = FOUND.with_suffix(".draft")
    draft.write_text("\n".join(lines) + "\n")
    draft.replace(FOUND)


def _quoted(text: str) -> str:
    if "'" not in text and text.isprintable():
        return f"'{text}'"
    return '"' + "".join(c if c.isprintable() and c not in '"\\' else f"\\u{ord(c):04x}" for c in text) + '"'
