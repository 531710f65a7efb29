"""What stands in the memory of another process of this user, and what else it shows of itself."""

import os
from pathlib import Path

UNREADABLE = {"[vvar]", "[vvar_vclock]", "[vsyscall]"}  # the kernel's, the same in every process


def found_in(pid: int, needles: dict[str, bytes]) -> set[str]:
    """The names of those ``needles`` that stand in any mapping of the process, its environment or its command line."""
    shown = [Path(f"/proc/{pid}/environ").read_bytes(), Path(f"/proc/{pid}/cmdline").read_bytes()]
    found = {name for name, needle in needles.items() if any(needle in text for text in shown)}
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights, _, _, _, *path = line.split(maxsplit=5)
            if "r" in rights and not UNREADABLE & set(path):
                start, end = (int(number, 16) for number in span.split("-"))
                content = _read(memory.fileno(), start, end)
                found |= {name for name, needle in needles.items() if needle in content}
    return found


def _read(descriptor: int, start: int, end: int) -> bytes:
    content = bytearray()
    while start < end:
        part = os.pread(descriptor, min(end - start, 16 * 1024**2), start)
        if not part:
            raise OSError(f"Nothing could be read at {start:x}")
        content += part
        start += len(part)
    return bytes(content)


def open_files(pid: int) -> set[str]:
    """What the process's descriptors lead to: ``socket:[inode]`` is one connection, whoever else has it."""
    return {os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()}


def descendants(pid: int) -> list[int]:
    found = [int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in _children(task)]
    return found + [below for child in found for below in descendants(child)]


def _children(task: Path) -> list[str]:
    return (task / "children").read_text().split()
