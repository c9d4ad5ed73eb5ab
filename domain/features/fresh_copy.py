"""A function as it was before its first call: with a copy of what it remembers, calls know of no other."""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Iterator
from typing import Any

_REMEMBERING = (dict, list, set, bytearray)


def fresh_copy(function: Callable[..., Any]) -> Callable[..., Any]:
    """Copy a function with the state that it can reach.

    Its module's variables, its closure, its defaults and attributes are the copy's own, and so are the
    functions of the same module that it calls. Objects that cannot be copied are shared.

    Parameters
    ----------
    function
        A function, a method, or an object that can be called; it is left as it is.
    """
    if isinstance(function, types.MethodType):
        return types.MethodType(function.__func__, _copied(function.__self__))
    if not isinstance(function, types.FunctionType):
        return _copied(function)  # type: ignore[no-any-return]
    return _rebuilt(function, _variables(function))


def _variables(function: types.FunctionType) -> dict[str, Any]:
    """Copy the variables of a function's module; functions of that module look into the copy, too."""
    origin = function.__globals__
    variables = dict(origin)
    waiting, seen = [function], {function}
    while waiting:
        for name in _names_in(waiting.pop().__code__):
            value = origin.get(name)
            if isinstance(value, types.FunctionType) and value.__globals__ is origin:
                if value not in seen:
                    seen.add(value)
                    waiting.append(value)
                    variables[name] = _rebuilt(value, variables)
            elif _can_remember(value) and variables[name] is value:
                variables[name] = _copied(value)
    return variables


def _names_in(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names_in(constant)


def _can_remember(value: object) -> bool:
    if isinstance(value, (type, types.ModuleType, types.BuiltinFunctionType, types.FunctionType)):
        return False
    if hasattr(value, "__wrapped__") or hasattr(value, "py_func"):  # functions in a wrapper, or compiled ones
        return False
    return isinstance(value, _REMEMBERING) or hasattr(value, "__dict__") or hasattr(value, "__array__")


def _rebuilt(function: types.FunctionType, variables: dict[str, Any]) -> types.FunctionType:
    closure = tuple(_copied_cell(cell) for cell in function.__closure__ or ())
    made = types.FunctionType(
        function.__code__, variables, function.__name__, _copied(function.__defaults__), closure or None
    )
    made.__kwdefaults__ = _copied(function.__kwdefaults__)
    made.__dict__.update(_copied(function.__dict__))
    if variables.get(function.__name__) is function:
        variables[function.__name__] = made
    return made


def _copied_cell(cell: types.CellType) -> types.CellType:
    try:
        return types.CellType(_copied(cell.cell_contents))
    except ValueError:  # it is empty
        return types.CellType()


def _copied(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except (TypeError, ValueError, AttributeError, RecursionError):
        return value
