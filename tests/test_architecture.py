"""The house rules that a program can check: who imports whom, what is banned, what has words."""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parents[1]
OURS = ("margin", "exchange", "clients", "replays")
TOP_LEVEL = {*OURS, "tests", "pyproject.toml", "README.md", "LICENSE"}
HIDDEN_TOP_LEVEL = {".ci", ".gitignore"}
FILE_LINES_MAX, FUNCTION_LINES_MAX = 450, 80

# The layers from the bottom up. A module may import its own layer and those below.
LAYERS = ("margin", "exchange.core", "exchange.storage", "exchange", "exchange.gateway",
          "exchange.cli")  # fmt: skip
CORE_PACKAGES = {"numpy", "numba", "msgspec", "sortedcontainers"}
PURE_STANDARD = {
    "__future__", "abc", "array", "bisect", "collections", "dataclasses", "enum", "fractions",
    "functools", "hashlib", "heapq", "itertools", "operator", "struct", "typing",
}  # fmt: skip
BANNED_MODULES = {"time", "random", "uuid", "os", "asyncio", "logging", "secrets", "threading"}
BANNED_CALLS = {"now", "utcnow", "today", "perf_counter", "monotonic", "time_ns"}
LIBM = {
    "exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "pow", "power", "float_power", "erf",
    "erfc", "gamma", "lgamma", "sin", "cos", "tan", "sinh", "cosh", "tanh", "arctan", "arctan2",
    "cbrt", "hypot", "fsum",
}  # fmt: skip


@cache
def sources(*packages: str) -> tuple[Path, ...]:
    """Python files of some packages (`exchange.core`), all of them if none is named."""
    folders = [ROOT.joinpath(*name.split(".")) for name in packages or OURS]
    return tuple(sorted(path for folder in folders for path in folder.rglob("*.py")))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def where(path: Path, node: ast.AST | None = None) -> str:
    line = f":{node.lineno}" if isinstance(node, (ast.stmt, ast.expr)) else ""
    return f"{path.relative_to(ROOT)}{line}"


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """Every module that a file names in an import, also inside functions."""
    package = module_of(path) if path.name == "__init__.py" else module_of(path).rpartition(".")[0]
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *filter(None, [base])])
            yield base, node
            yield from ((f"{base}.{alias.name}", node) for alias in node.names)


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def layer_of(module: str) -> int:
    """The layer of one of our modules; the longest name that fits."""
    if module == "exchange.__main__":  # `python -m exchange` is the command line
        return len(LAYERS) - 1
    fits = [number for number, layer in enumerate(LAYERS) if within(module, layer)]
    return max(fits, key=lambda number: len(LAYERS[number]))


def test_imports_go_one_way() -> None:
    wrong = [
        f"{where(path, node)}: {module_of(path)} imports {name}"
        for path in sources("margin", "exchange")
        for name, node in imported(path)
        if within(name, "margin") or within(name, "exchange")
        if name != "exchange" and layer_of(name) > layer_of(module_of(path))
    ]
    assert not wrong, wrong


def test_folders_of_margin_stand_on_each_other() -> None:
    """Every folder, and every module beside them, has a floor: what it imports lies below."""
    below: dict[str, set[str]] = {}
    for path in sources("margin"):
        room = module_of(path).split(".")[1:2] or ["margin"]
        used = {name.split(".")[1] for name, _ in imported(path) if name.startswith("margin.")}
        below.setdefault(room[0], set()).update(used - set(room))
    left = set(below)
    while left:
        ground = {room for room in left if not below[room] & left}
        assert ground, f"a circle among {sorted(left)}"
        left -= ground


@pytest.mark.parametrize(
    ("package", "banned"),
    [
        ("margin", ("exchange", "clients", "replays", "tests")),
        ("exchange.core", ("clients", "replays", "tests")),
        ("exchange.storage", ("clients", "replays", "tests")),
        ("exchange.gateway", ("replays", "tests")),
        ("clients", ("margin", "exchange", "replays", "tests")),
        ("replays", ("exchange.gateway", "exchange.cli", "aiohttp", "tests")),
    ],
)
def test_what_a_package_may_not_know(package: str, banned: tuple[str, ...]) -> None:
    wrong = [
        f"{where(path, node)}: {name}"
        for path in sources(package)
        for name, node in imported(path)
        if any(within(name, other) for other in banned)
    ]
    assert not wrong, wrong


def test_the_core_imports_margin_four_packages_and_pure_standard_modules_only() -> None:
    wrong = [
        f"{where(path, node)}: {name}"
        for path in sources("exchange.core")
        for name, node in imported(path)
        if not (within(name, "margin") or within(name, "exchange.core"))
        and name.partition(".")[0] not in CORE_PACKAGES | PURE_STANDARD
    ]
    assert not wrong, wrong


@pytest.mark.parametrize(
    ("package", "homes"),
    [
        ("aiohttp", ("exchange.gateway", "exchange.cli", "clients")),
        ("sqlite3", ("exchange.storage",)),
        ("sqlite_utils", ("exchange.storage",)),
        ("click", ("exchange.cli",)),
        ("scipy", ("exchange.solver", "exchange.surface", "exchange.cli", "replays")),
        ("plotly", ("exchange.cli",)),
        ("pyarrow", ("replays",)),
        ("arch", ("replays",)),
        ("cryptography", ("exchange.gateway", "clients")),
    ],
)
def test_a_dependency_is_known_in_its_home_only(package: str, homes: tuple[str, ...]) -> None:
    wrong = [
        f"{where(path, node)}: {name}"
        for path in sources()
        for name, node in imported(path)
        if within(name, package) and not any(within(module_of(path), home) for home in homes)
    ]
    assert not wrong, wrong


def calls(path: Path) -> Iterator[tuple[str, str, ast.Call]]:
    """(object, function, call) of every call; the object is empty for a plain name."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield "", node.func.id, node
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner = node.func.value
            yield owner.id if isinstance(owner, ast.Name) else "?", node.func.attr, node


@pytest.mark.parametrize("package", ["margin", "exchange.core"])
def test_pure_packages_know_no_clock_no_chance_and_no_surroundings(package: str) -> None:
    wrong = [
        f"{where(path, node)}: {name}"
        for path in sources(package)
        for name, node in imported(path)
        if name.partition(".")[0] in BANNED_MODULES or name.startswith("numpy.random")
    ]
    for path in sources(package):
        wrong += [f"{where(path, call)}: {owner}.{name}()" for owner, name, call in calls(path)
                  if owner and name in BANNED_CALLS]  # fmt: skip
        wrong += [f"{where(path, call)}: hash()" for owner, name, call in calls(path)
                  if not owner and name in ("hash", "id", "input", "open", "print")]  # fmt: skip
        wrong += [where(path, node) for node in ast.walk(tree_of(path))
                  if isinstance(node, ast.Attribute) and node.attr == "random"]  # fmt: skip
    assert not wrong, wrong


def is_set(node: ast.expr) -> bool:
    made = isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    return isinstance(node, (ast.Set, ast.SetComp)) or (
        made and node.func.id in ("set", "frozenset")
    )


def iterated(tree: ast.Module) -> Iterator[ast.expr]:
    """Everything that a loop, a comprehension or an ordering call walks through."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
            yield node.iter
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            if node.func.id in ("list", "tuple", "enumerate", "zip", "map", "iter", "next"):
                yield from node.args
        elif isinstance(node, ast.Starred):
            yield node.value


@pytest.mark.parametrize("package", ["margin", "exchange.core"])
def test_no_set_is_iterated(package: str) -> None:
    wrong = [
        where(path, node)
        for path in sources(package)
        for node in iterated(tree_of(path))
        if is_set(node)
    ]
    assert not wrong, wrong


def test_the_core_has_no_float_literals() -> None:
    wrong = [
        f"{where(path, node)}: {node.value}"
        for path in sources("exchange.core")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, (float, complex))
    ]
    assert not wrong, wrong


def test_the_core_divides_integers_only() -> None:
    wrong = [
        where(path, node)
        for path in sources("exchange.core")
        for node in ast.walk(tree_of(path))
        if isinstance(node, (ast.BinOp, ast.AugAssign)) and isinstance(node.op, ast.Div)
    ]
    assert not wrong, wrong


@pytest.mark.parametrize("package", ["margin", "exchange.core"])
def test_valuation_uses_our_own_functions_never_libm_nor_fast_math(package: str) -> None:
    wrong = []
    for path in sources(package):
        wrong += [f"{where(path, call)}: {owner}.{name}" for owner, name, call in calls(path)
                  if owner in ("math", "np", "numpy") and name in LIBM]  # fmt: skip
        wrong += [f"{where(path, node)}: {name}" for name, node in imported(path)
                  if name.startswith("math.") and name.removeprefix("math.") in LIBM]  # fmt: skip
        wrong += [f"{where(path, call)}: fastmath" for _, _, call in calls(path)
                  if any(keyword.arg == "fastmath" for keyword in call.keywords)]  # fmt: skip
    assert not wrong, wrong


def test_only_the_clock_reads_the_time() -> None:
    """Commands at the prompt may say how long they took."""
    wrong = [
        f"{where(path, node)}: {name}"
        for path in sources("exchange", "margin")
        for name, node in imported(path)
        if name == "time" and module_of(path) != "exchange.clock"
        if not within(module_of(path), "exchange.cli")
    ]
    assert not wrong, wrong


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node


def test_files_and_functions_stay_short() -> None:
    wrong = []
    for path in sources():
        lines = path.read_text("utf-8").count("\n")
        if lines > FILE_LINES_MAX:
            wrong.append(f"{where(path)}: {lines} lines")
        for function in functions(tree_of(path)):
            length = (function.end_lineno or function.lineno) - function.lineno + 1
            if length > FUNCTION_LINES_MAX:
                wrong.append(f"{where(path, function)}: {function.name} has {length} lines")
    assert not wrong, wrong


def test_nothing_is_left_to_do() -> None:
    marks = ("TO" + "DO", "FIX" + "ME", "XX" + "X:", "HA" + "CK")
    files = [path for folder in (*OURS, "tests") for path in (ROOT / folder).rglob("*")]
    wrong = [
        f"{where(path)}: {mark}"
        for path in [*files, ROOT / "pyproject.toml", ROOT / "README.md"]
        if path.suffix in (".py", ".md", ".toml") and path.exists()
        for mark in marks
        if mark in path.read_text("utf-8")
    ]
    assert not wrong, wrong


def test_nothing_else_stands_at_the_top_level() -> None:
    names = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    built = {name for name in names if name.endswith(".egg-info")} | {"__pycache__", "build"}
    assert names - built <= TOP_LEVEL, names - built - TOP_LEVEL


def test_no_name_says_nothing() -> None:
    empty = {"utils", "util", "helpers", "helper", "manager", "managers", "common", "misc"}
    wrong = [where(path) for path in sources() if empty & set(path.with_suffix("").parts[-2:])]
    assert not wrong, wrong


def undocumented(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        if node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None and not overloaded(node):
            yield f"{prefix}:{node.lineno} {node.name}"
        if isinstance(node, ast.ClassDef):
            yield from undocumented(node.body, prefix)


def overloaded(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> bool:
    """A setter or an overload, whose words stand elsewhere."""
    return any(
        ast.unparse(decorator).endswith((".setter", "overload"))
        for decorator in node.decorator_list
    )


def test_every_module_and_everything_public_has_a_docstring() -> None:
    wrong = []
    for path in sources("margin", "exchange"):
        tree = tree_of(path)
        if tree.body and ast.get_docstring(tree) is None:
            wrong.append(where(path))
        wrong += undocumented(tree.body, where(path))
    assert not wrong, wrong


def commands(group: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, group
    if isinstance(group, click.Group):
        context = click.Context(group)
        for sub in group.list_commands(context):
            found = group.get_command(context, sub)
            assert found is not None
            yield from commands(found, f"{name} {sub}")


def test_every_command_and_option_has_help() -> None:
    from exchange.cli import main

    wrong = []
    for name, command in commands(main, "uncross"):
        if not (command.help or "").strip():
            wrong.append(name)
        wrong += [
            f"{name} {parameter.opts[0]}" for parameter in command.params
            if isinstance(parameter, click.Option) and not (parameter.help or "").strip()
        ]  # fmt: skip
    assert not wrong, wrong


def test_test_files_have_different_names() -> None:
    """They are no packages, so pytest tells them apart by their base name."""
    names = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert not [name for name, count in names.items() if count > 1]


def test_importing_the_core_compiles_and_opens_nothing() -> None:
    """No module runs a kernel, reads a file or starts a thread when it is imported."""
    wrong = [
        f"{where(path, node)}: {ast.unparse(node.value)[:60]}"
        for path in sources("margin", "exchange.core")
        for node in tree_of(path).body
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)
        if ast.unparse(node.value.func) not in ("check",)
    ]
    assert not wrong, wrong
    assert sys.version_info >= (3, 11)


def test_the_core_s_page_names_every_module() -> None:
    core = ROOT / "exchange/core"
    page = (core / "README.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| ")]
    for path in core.rglob("*.py"):
        if path.stem != "__init__":
            folder = "|" if path.parent == core else f"| `{path.parent.name}/`"
            of_folder = [row[-1] for row in rows if row[0] == folder]
            if path.parent.name == "stored":  # its parts have a table of their own
                of_folder.append(page.partition("## State")[2].partition("An account belongs")[0])
            assert any(f"`{path.stem}`" in cell for cell in of_folder), path
