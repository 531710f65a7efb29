"""Takes a guard out of a running process: every live function whose code differs gets that of the edited source."""

import gc
from collections.abc import Iterator
from inspect import CO_OPTIMIZED
from types import CodeType, FunctionType

Changes = dict[tuple[str, int], CodeType]  # by qualified name and first line


class NotSwappable(Exception):
    """The edit is of what runs once, at import."""


def swap(path: str, before: str, after: str) -> None:
    """Raises ``NotSwappable``, and then nothing, or not everything, is changed."""
    changes: Changes = {}
    _compare(compile(before, path, "exec"), compile(after, path, "exec"), changes)
    # By type(): isinstance() asks a weak proxy for the class of what it stands for, which may be gone.
    for function in [each for each in gc.get_objects() if type(each) is FunctionType]:
        code = function.__code__
        new = changes.get((code.co_qualname, code.co_firstlineno)) if code.co_filename == path else None
        if new is not None:
            try:
                function.__code__ = new
            except ValueError as error:  # it has other free variables
                raise NotSwappable from error


def _compare(old: CodeType, new: CodeType, changes: Changes) -> bool:
    """Whether they differ, functions within them included."""
    inner_old, inner_new = list(_inner(old)), list(_inner(new))
    is_changed = _own(old) != _own(new)
    if len(inner_old) != len(inner_new) or (is_changed and not old.co_flags & CO_OPTIMIZED):
        if not old.co_flags & CO_OPTIMIZED:  # a module or the body of a class
            raise NotSwappable
        is_changed, inner_old = True, []  # made anew by the function's new code
    inner = [_compare(*pair, changes) for pair in zip(inner_old, inner_new, strict=False)]
    if (is_changed or True in inner) and old.co_flags & CO_OPTIMIZED:
        changes[old.co_qualname, old.co_firstlineno] = new
    return is_changed or True in inner


def _inner(code: CodeType) -> Iterator[CodeType]:
    return (each for each in code.co_consts if isinstance(each, CodeType))


def _own(code: CodeType) -> tuple:
    constants = [repr(each) for each in code.co_consts if not isinstance(each, CodeType)]
    return code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
