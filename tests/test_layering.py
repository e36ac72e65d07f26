"""Who may know whom: the table of the design, read from the imports of every module."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.help import script_parser
from files.errors import setting

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {  # room -> what of ours it may import, besides itself
    "files": (),
    "transformer": ("files",),
    "corpus": ("transformer.tokenization", "files"),
    "tasks": ("corpus", "transformer", "files"),
    "distillation": ("transformer", "files"),
    "search": (),
    "reporting": ("distillation", "tasks", "corpus", "transformer", "files"),
    "cli": ("search", "reporting", "distillation", "tasks", "corpus", "transformer", "files"),
}
SIBLINGS = ("distilbert", "dynamic_tinybert")  # folders of scripts
SCRIPTS = {path.stem for path in ROOT.glob("*.py")}
OURS = {*ROOMS, *SIBLINGS, "demo", "benchmarks", *SCRIPTS}
HEAVY = {
    *("boto3", "huggingface_hub", "matplotlib", "nltk", "scipy", "sklearn", "tensorboard"),
    "transformers",
}
# Copied beside models for `transformers` to read; nothing of ours imports it.
HANDED_OUT = "transformer/modeling_tinybert.py"
MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in (
        "*.py",
        *(f"{folder}/*.py" for folder in SIBLINGS),
        *(f"{room}/**/*.py" for room in ROOMS),
    )
    for path in ROOT.glob(pattern)
    if path != ROOT / HANDED_OUT
)


def imports(nodes: list[ast.stmt], package: str, inside: bool) -> Iterator[str]:
    """Dotted names a module imports; `inside` also those inside its functions.

    What only a type checker sees is left out. Of `from a import b` the name is `a.b`.
    """
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, [package if node.level else "", node.module]))
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from imports(node.orelse, package, inside)
        elif inside or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            children = [
                child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr)
            ]
            yield from imports(children, package, inside)


def imported_by(module: str, inside: bool = True) -> set[str]:
    path = ROOT / module
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=module)
    package = ".".join(path.parent.relative_to(ROOT).parts)
    return set(imports(tree.body, package, inside))


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_every_room_is_found():
    found = {module.split("/")[0] for module in MODULES if "/" in module}
    assert found == {*ROOMS, *SIBLINGS}


def texts_of(module: str) -> Iterator[tuple[int, str]]:
    """The string constants of a module with their lines, docstrings left out."""
    tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
    docstrings = set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
            docstrings.add(id(body[0].value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from [(node.lineno, node.value)] * (id(node) not in docstrings)


BELOW = sorted({"files", "transformer", "corpus", "tasks", "distillation", "search"})
# Of the programs that are called: wikiextractor and git.
OTHERS = {"--json", "--processes", "--no-templates", "--porcelain"}


@pytest.mark.parametrize("module", [m for m in MODULES if m.split("/")[0] in BELOW])
def test_no_room_names_a_flag(module):
    named = [
        f"{module}:{line}: {text}"
        for line, text in texts_of(module)
        if re.search(r"(?<![\w-])--[a-z]", re.sub("|".join(OTHERS), "", text))
    ]
    assert named == []


def test_settings_are_named_as_the_script_has_them():
    parser = script_parser("A script.")
    parser.add_argument("--max_length", dest="max_seq_length", type=int)
    assert setting("max_seq_length") == "--max_seq_length"
    parser.parse_args([])
    assert setting("max_seq_length") == "--max_length"
    script_parser("Another.").parse_args([])
    assert setting("max_seq_length") == "--max_seq_length"


def test_imports_inside_functions_are_seen():
    source = (
        "import a\ndef f():\n    if x:\n        from b.c import d\nif TYPE_CHECKING:\n    import e"
    )
    tree = ast.parse(source).body
    assert set(imports(tree, "", inside=True)) == {"a", "b.c.d"}
    assert set(imports(tree, "", inside=False)) == {"a"}


IN_ROOMS = [module for module in MODULES if module.split("/")[0] in ROOMS]
OF_SCRIPTS = [module for module in MODULES if module not in IN_ROOMS]


@pytest.mark.parametrize("module", IN_ROOMS)
def test_room_knows_only_whom_it_may(module):
    room = module.split("/")[0]
    allowed = (room, *ROOMS[room])
    ours = {name for name in imported_by(module) if name.split(".")[0] in OURS}
    assert {name for name in ours if not within(name, allowed)} == set()


def test_no_modules_import_each_other_in_a_circle():
    """Imports inside functions count; what only a type checker sees does not."""
    names = {m.removesuffix(".py").removesuffix("/__init__").replace("/", "."): m for m in MODULES}
    left = {}
    for name, module in names.items():
        used = {u if u in names else u.rpartition(".")[0] for u in imported_by(module)}
        left[name] = used & names.keys() - {name}
    assert sum(map(len, left.values())) > 200
    # A module that imports none of those left is in no circle.
    while free := {name for name, used in left.items() if not used & left.keys()}:
        left = {name: used for name, used in left.items() if name not in free}
    assert left == {}


@pytest.mark.parametrize("module", [m for m in IN_ROOMS if not m.startswith("cli/")])
def test_room_reads_no_flags(module):
    assert not any(within(name, ("argparse",)) for name in imported_by(module))


@pytest.mark.parametrize("module", OF_SCRIPTS)
def test_script_imports_no_other_script(module):
    assert {name.split(".")[0] for name in imported_by(module)} & {*SCRIPTS, *SIBLINGS} == set()


@pytest.mark.parametrize("module", MODULES)
def test_slow_packages_are_imported_where_they_are_used(module):
    names = imported_by(module, inside=False)
    assert "reporting.plots" not in names
    if module != "reporting/plots.py":  # it is itself imported where a figure is drawn
        assert {name.split(".")[0] for name in names} & HEAVY == set()


def test_the_file_handed_out_with_models_is_imported_by_nothing_and_needs_nothing_of_ours():
    assert not {name.split(".")[0] for name in imported_by(HANDED_OUT)} & OURS
    name = HANDED_OUT.removesuffix(".py").replace("/", ".")
    assert not any(within(used, (name,)) for module in MODULES for used in imported_by(module))


@pytest.mark.parametrize("module", MODULES)
def test_transformers_is_for_tests_alone(module):
    assert "transformers" not in {name.split(".")[0] for name in imported_by(module)}


@pytest.mark.parametrize(
    "script",
    [
        "pregenerate_training_data",
        "prepare_data",
        "download_file",
        "download_glue",
        "get_bert_models",
    ],
)
def test_a_script_without_a_model_does_without_torch(script):
    """Its import takes longer than many a run, and 200 MB in every process."""
    look = f"import sys, {script}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", look], cwd=ROOT, check=False).returncode == 0
