"""Where an exception came from, without a word of what it says: messages quote rows, addresses and passwords."""

import traceback
from collections.abc import Iterator

LONGEST = 20  # frames of each, the innermost ones
MOST = 10  # exceptions


def places(error: BaseException) -> str:
    """The types of ``error`` and of what led to it, newest first, each with the lines that it came through."""
    lines = []
    for cause in _chain(error):
        lines.append(f"{type(cause).__module__}.{type(cause).__qualname__}")
        frames = traceback.StackSummary.extract(
            traceback.walk_tb(cause.__traceback__), limit=-LONGEST, lookup_lines=False
        )
        lines += [f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in frames]
    return "\n".join(lines)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(MOST):  # a chain may be a circle
        if error is None:
            return
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
