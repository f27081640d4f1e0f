"""What is public: `__all__` tells the truth, all of it is documented and found in one place."""

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from types import ModuleType

import pytest

import asgi_notify
from tests.servers import ROOT

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(asgi_notify.__path__, "asgi_notify.")
    if not module.name.rpartition(".")[2].startswith("_")
)

# Where users import from; all other modules are the package's own business.
# The names of these are all importable from asgi_notify itself, too:
DOORS = ["consumers", "exceptions", "layers", "middleware", "routing", "settings", "types",
         "with_worker", "worker"]  # fmt: skip
# These are asked for by their own name, such as asgi_notify.client:
OWN_NAMES = ["app", "asgi", "auth", "auth.django", "auth.jwt", "client", "demo", "events",
             "layers.engine", "layers.shared", "layers.valkey_layer", "lifespan", "positions",
             "protocol", "sse", "testing", "ticketing", "users"]  # fmt: skip

PACKAGES = sorted(
    module.name
    for module in pkgutil.walk_packages(asgi_notify.__path__, "asgi_notify.")
    if module.ispkg
)


def order(name: str) -> tuple[bool, bool, str]:
    """Constants first, then classes, then functions; each by the alphabet."""
    return not name.isupper(), not name[0].isupper(), name


Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def definitions(module: ModuleType) -> Iterator[Definition]:
    """The classes and functions of `__all__` that stand in this file itself."""
    for node in ast.parse(inspect.getsource(module)).body:
        if isinstance(node, Definition) and node.name in module.__all__:
            yield node


def passed_on(module: ModuleType) -> set[str]:
    """The names that a module has imported."""
    tree = ast.parse(inspect.getsource(module))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name for node in imports for alias in node.names}


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


@pytest.mark.parametrize("package", ["asgi_notify", *PACKAGES])
def test_what_a_package_passes_on_is_public_in_the_module_that_makes_it(package: str) -> None:
    offering = importlib.import_module(package)
    inside = [importlib.import_module(name) for name in MODULES if name.startswith(f"{package}.")]
    for name in offering.__all__:
        if name in passed_on(offering):
            offered = getattr(offering, name)
            assert any(name in m.__all__ and getattr(m, name) is offered for m in inside), name


def test_the_documents_import_from_doors_alone() -> None:
    documents = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("examples/*.py")]
    text = "\n".join(document.read_text() for document in documents)
    named = re.findall(r"^\s*(?:from|import) asgi_notify\.([\w.]+)", text, re.MULTILINE)
    assert len(named) > 10
    assert set(named) <= {*DOORS, *OWN_NAMES}
