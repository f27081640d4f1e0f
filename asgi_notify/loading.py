"""What a dotted name leads to, where routes are kept in a module of their own."""

import importlib
from types import ModuleType

from .exceptions import RouteError

__all__ = ["load_routes", "routes_of"]


def load_routes(name: str, default: str) -> object:
    """Import what an ``include`` names; what comes back is not looked at.

    Args:
        name: ``"package.module.attribute"``, ``"package.module:attribute"``, or a module.
        default: the attribute that is meant where only a module is named.

    Raises:
        RouteError: the name leads nowhere, or its module fails as it is imported.
    """
    module_name, colon, attribute = name.partition(":")
    module = _find_module(module_name, name)
    if module is None and not colon:
        module_name, _, attribute = name.rpartition(".")
        module = _find_module(module_name, name)
    if module is None:
        raise RouteError(
            f"include({name!r}): there is no module {module_name!r}; give "
            f"'package.module.attribute', or a module that has {default}"
        )
    found = routes_of(module, attribute or default, name)
    return routes_of(found, default, name) if isinstance(found, ModuleType) else found


def _find_module(module_name: str, name: str) -> ModuleType | None:
    """Import a module; None if there is none of that name."""
    if not all(part.isidentifier() for part in module_name.split(".")):
        return None
    try:
        return importlib.import_module(module_name)
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{module_name}.".startswith(f"{missing}."):
            return None
        raise RouteError(f"include({name!r}): importing {module_name!r} failed: {error}") from error


def routes_of(module: ModuleType, attribute: str, name: str) -> object:
    """The attribute of a module that ``include`` was told to take routes from.

    Raises:
        RouteError: the module has no such attribute.
    """
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        raise RouteError(
            f"include({name!r}): module {module.__name__!r} has no {attribute!r}; "
            "define that list of routes there, or name another"
        ) from error
