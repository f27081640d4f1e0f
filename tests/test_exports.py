"""What is public: `__all__` tells the truth, all of it is documented and found in one place."""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest

import asgi_notify

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(asgi_notify.__path__, "asgi_notify.")
    if not module.name.rpartition(".")[2].startswith("_")
)

# Their names are all importable from asgi_notify itself.
DOORS = ["consumers", "exceptions", "layers", "middleware", "routing", "types"]


def order(name: str) -> tuple[bool, bool, str]:
    """Constants first, then classes, then functions; each by the alphabet."""
    return not name.isupper(), not name[0].isupper(), name


Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def definitions(module: ModuleType) -> Iterator[Definition]:
    """The classes and functions of `__all__` that stand in this file itself."""
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, Definition) and node.name in module.__all__:
            yield node


def undocumented_methods(cls: type) -> Iterator[str]:
    """Public methods and properties without a docstring, own or inherited."""
    for name, value in vars(cls).items():
        if name.startswith("_") or not (inspect.isroutine(value) or isinstance(value, property)):
            continue
        owners = (base for base in cls.__mro__ if hasattr(base, name))
        if not any(inspect.getdoc(getattr(base, name)) for base in owners):
            yield f"{cls.__name__}.{name}"


def test_there_are_modules() -> None:
    assert "asgi_notify.types" in MODULES


@pytest.mark.parametrize("name", ["asgi_notify", *MODULES])
def test_all_is_sorted_and_true(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__all__ == sorted(set(module.__all__), key=order)
    assert [export for export in module.__all__ if not hasattr(module, export)] == []


@pytest.mark.parametrize("name", ["asgi_notify", *MODULES])
def test_every_public_name_is_documented(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} opens with no sentence"
    bare = [node.name for node in definitions(module) if not ast.get_docstring(node)]
    for node in definitions(module):
        if isinstance(node, ast.ClassDef):
            bare += undocumented_methods(getattr(module, node.name))
    assert not bare, f"{name}: no docstring on {', '.join(bare)}"


@pytest.mark.parametrize("door", DOORS)
def test_every_public_name_is_importable_from_the_package(door: str) -> None:
    module = importlib.import_module(f"asgi_notify.{door}")
    assert set(module.__all__) <= set(asgi_notify.__all__)
    for name in module.__all__:
        assert getattr(asgi_notify, name) is getattr(module, name)
