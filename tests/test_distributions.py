"""The distributions agree with each other, and with the table of them in core."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

import pytest

import apscheduler
from apscheduler.distributions import COMPONENTS, DISTRIBUTIONS
from apscheduler.store_urls import SCHEMES
from apscheduler.util import ref_to_obj

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "core"
PLUGINS = sorted(path.parent for path in ROOT.glob("plugins/*/*/pyproject.toml"))
MEMBERS = [CORE, *PLUGINS]

#: Directory below plugins/ → word in the distribution's name, package of the module.
KINDS = {
    "executors": ("executor", "executors"),
    "schedulers": ("scheduler", "schedulers"),
    "stores": ("store", "jobstores"),
    "triggers": ("trigger", "triggers"),
}

#: For those who write plugins: it brings pytest, which nobody needs to run jobs.
NOT_IN_ALL = {"apscheduler-testing"}

#: The rooms of core, the lowest first. A module imports from its own room and below.
ROOMS = [
    {
        "apscheduler",
        "apscheduler.callables",
        "apscheduler.clock",
        "apscheduler.conversion",
        "apscheduler.distributions",
        "apscheduler.environment",
        "apscheduler.events",
        "apscheduler.executors",
        "apscheduler.installed",
        "apscheduler.job",
        "apscheduler.jobstores",
        "apscheduler.nodes",
        "apscheduler.records",
        "apscheduler.schedulers",
        "apscheduler.threads",
        "apscheduler.triggers",
        "apscheduler.triggers.base",
        "apscheduler.util",
    },
    {
        "apscheduler.digest",
        "apscheduler.problems",
        "apscheduler.runs",
        "apscheduler.settings",
    },
    {"apscheduler.hooked", "apscheduler.hooks"},
    {"apscheduler.plugins", "apscheduler.serializers", "apscheduler.transfer"},
    {
        "apscheduler.executors.*",
        "apscheduler.jobstores.*",
        "apscheduler.resigning",
        "apscheduler.triggers.*",
    },
    {"apscheduler.planning"},
    {
        "apscheduler.completions",
        "apscheduler.drivers",
        "apscheduler.engine",
        "apscheduler.housekeeping",
        "apscheduler.leases",
        "apscheduler.openruns",
        "apscheduler.outcomes",
        "apscheduler.selection",
        "apscheduler.watch",
        "apscheduler.timekeeping",
    },
    {
        "apscheduler.declarations",
        "apscheduler.declared_job",
        "apscheduler.synchronisation",
    },
    {"apscheduler.schedulers.*"},
    {"apscheduler.checks", "apscheduler.config", "apscheduler.store_urls"},
]


def name_of(directory: Path) -> str:
    return directory.relative_to(ROOT).as_posix()


def read(directory: Path) -> dict[str, Any]:
    return tomllib.loads((directory / "pyproject.toml").read_text())


def project(directory: Path) -> dict[str, Any]:
    found: dict[str, Any] = read(directory)["project"]
    return found


def distribution_in(requirement: str) -> str:
    """Return the name of the distribution that a requirement asks for."""
    return re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]


def python_files(*directories: Path) -> list[Path]:
    return sorted(file for each in directories for file in each.rglob("*.py"))


def module_of(file: Path, source: Path) -> str:
    parts = file.relative_to(source).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files_of_the_project() -> list[Path]:
    """Return what is committed or would be, all of it text."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    if done.returncode:
        pytest.skip(f"needs a git checkout: {done.stderr.strip()}")
    files = [ROOT / name for name in done.stdout.split("\0") if name]
    return [file for file in files if file.is_file()]


every_member = pytest.mark.parametrize("member", MEMBERS, ids=name_of)
every_plugin = pytest.mark.parametrize("plugin", PLUGINS, ids=name_of)


@every_member
@pytest.mark.parametrize("key", ["version", "requires-python", "license", "readme"])
def test_every_distribution_has_the_same(key: str, member: Path) -> None:
    assert project(member)[key] == project(ROOT)[key]


@every_member
def test_every_distribution_is_built_alike(member: Path) -> None:
    theirs, root = read(member), read(ROOT)

    assert theirs["build-system"] == root["build-system"]
    build = {"build": {"targets": {"wheel": {"packages": ["src/apscheduler"]}}}}
    assert theirs["tool"] == {"hatch": build}


@every_member
def test_every_distribution_has_what_its_page_shows(member: Path) -> None:
    licence = (ROOT / "LICENSE").read_text()

    assert (member / "LICENSE").read_text() == licence
    assert (member / "README.md").read_text().startswith("# ")
    assert len(project(member)["description"]) > 20


@every_member
def test_distributions_of_the_project_ask_for_each_other_by_one_range(
    member: Path,
) -> None:
    major, minor, _ = project(ROOT)["version"].split(".")
    wanted = [
        requirement
        for requirement in project(member)["dependencies"]
        if distribution_in(requirement).startswith("apscheduler")
    ]

    suffix = f"~={major}.{minor}"
    assert all(each == distribution_in(each) + suffix for each in wanted)


def test_the_version_in_the_code_is_the_shared_one() -> None:
    assert apscheduler.release == apscheduler.__version__ == project(ROOT)["version"]


@every_plugin
def test_directory_distribution_and_module_end_in_the_same_word(plugin: Path) -> None:
    kinds, name = plugin.parts[-2:]
    if kinds == "tools":
        distribution, package = f"apscheduler-{name}", "apscheduler"
    else:
        word, kind_package = KINDS[kinds]
        distribution = f"apscheduler-{word}-{name}"
        package = f"apscheduler/{kind_package}"
    source = plugin / "src" / package

    assert project(plugin)["name"] == distribution
    shipped = {path.stem for path in source.iterdir() if path.name != "__pycache__"}
    assert shipped == {name}


@every_plugin
def test_the_tests_of_a_component_are_named_after_it(plugin: Path) -> None:
    kinds, name = plugin.parts[-2:]
    tests = {path.name for path in plugin.glob("tests/test_*.py")}

    if kinds == "tools":
        assert tests
    else:
        assert f"test_{name}_{KINDS[kinds][0]}.py" in tests


@every_plugin
def test_only_core_owns_the_packages_that_plugins_add_to(plugin: Path) -> None:
    source = plugin / "src" / "apscheduler"
    owned = [source, *(source / package for _, package in KINDS.values())]

    assert not [each for each in owned if (each / "__init__.py").exists()]


def test_the_table_in_core_knows_every_component_of_every_distribution() -> None:
    unknown = []
    for member in MEMBERS:
        for group, entry_points in project(member).get("entry-points", {}).items():
            kind = group.removeprefix("apscheduler.").removesuffix("s")
            if not group.startswith("apscheduler."):  # hooks, plugins of pytest
                continue
            for name, value in entry_points.items():
                if COMPONENTS.get(kind, {}).get(name) != value:
                    unknown.append((group, name, value))

    assert not unknown


def test_the_table_in_core_knows_the_urls_of_every_store() -> None:
    declared: dict[str, str] = {}
    for name, reference in COMPONENTS["jobstore"].items():
        declared |= dict.fromkeys(ref_to_obj(reference).url_schemes, name)

    assert declared == SCHEMES


def test_the_table_in_core_names_the_distribution_of_every_module() -> None:
    wrong = []
    for plugin in PLUGINS:
        name = project(plugin)["name"]
        kinds, word = plugin.parts[-2:]
        package = "" if kinds == "tools" else f"{KINDS[kinds][1]}."
        if DISTRIBUTIONS.get(f"apscheduler.{package}{word}") != name:
            wrong.append(name)

    assert not wrong


def test_what_the_table_in_core_says_of_a_distribution_here_is_true() -> None:
    here = {project(plugin)["name"] for plugin in PLUGINS}
    declared = {
        (group, name)
        for member in MEMBERS
        for group, points in project(member).get("entry-points", {}).items()
        for name in points
    }
    promised = {
        (f"apscheduler.{kind}s", name)
        for kind, components in COMPONENTS.items()
        for name, value in components.items()
        if DISTRIBUTIONS.get(value.partition(":")[0], "apscheduler-core")
        in {*here, "apscheduler-core"}
    }

    assert promised <= declared


def test_every_plugin_is_reachable_from_all() -> None:
    root = project(ROOT)
    extras = root["optional-dependencies"]
    projects = {project(member)["name"]: project(member) for member in MEMBERS}
    reached: set[str] = set()
    waiting = [*root["dependencies"], *extras["all"]]
    while waiting:
        requirement = waiting.pop()
        name = distribution_in(requirement)
        if name == root["name"]:
            inner = requirement.partition("[")[2].partition("]")[0]
            waiting += [each for extra in inner.split(",") for each in extras[extra]]
        elif name in projects and name not in reached:
            reached.add(name)
            waiting += projects[name]["dependencies"]

    assert projects.keys() - reached == NOT_IN_ALL


def test_the_workspace_lists_every_distribution_as_its_own() -> None:
    sources = read(ROOT)["tool"]["uv"]["sources"]
    names = {project(member)["name"] for member in [ROOT, *MEMBERS]}

    assert sources == {name: {"workspace": True} for name in names}


def imports_of(file: Path, source: Path) -> Iterator[str]:
    """Yield the modules of ours that are imported here, lazily or not.

    What is imported for type checking alone is left out: it imports nothing.
    """
    module = module_of(file, source)
    package = module if file.stem == "__init__" else module.rpartition(".")[0]
    shipped = {module_of(each, source) for each in python_files(source)}
    waiting: list[ast.AST] = [ast.parse(file.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting.extend(node.orelse)
            continue
        waiting.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            for each in node.names:
                inner = f"{origin}.{each.name}"
                yield inner if inner in shipped else origin


def room_of(module: str) -> int:
    package = f"{module.rpartition('.')[0]}.*"
    for name in (module, package):
        for number, room in enumerate(ROOMS):
            if name in room:
                return number
    above = module.rpartition(".")[0]
    if above in ("", "apscheduler"):
        raise LookupError(f"{module} has no room: give it one in ROOMS")
    return room_of(above)


def test_core_imports_nothing_that_a_plugin_ships() -> None:
    shipped = {
        module_of(file, plugin / "src")
        for plugin in PLUGINS
        for file in python_files(plugin / "src")
    }
    wrong = [
        (file.name, module)
        for file in python_files(CORE / "src")
        for module in imports_of(file, CORE / "src")
        if module in shipped or module in DISTRIBUTIONS
    ]

    assert not wrong


def test_rooms_of_core_import_only_lower_rooms() -> None:
    source = CORE / "src"
    wrong = [
        f"{module} imports {imported}"
        for file in python_files(source)
        for module in [module_of(file, source)]
        for imported in imports_of(file, source)
        if imported.partition(".")[0] == "apscheduler"
        and room_of(imported) > room_of(module)
    ]

    assert not wrong


def test_plugins_import_other_plugins_only_if_they_depend_on_them() -> None:
    undeclared = []
    for plugin in PLUGINS:
        declared = {distribution_in(each) for each in project(plugin)["dependencies"]}
        for file in python_files(plugin / "src"):
            for module in imports_of(file, plugin / "src"):
                owner = DISTRIBUTIONS.get(module)
                if owner and owner not in {*declared, project(plugin)["name"]}:
                    undeclared.append((name_of(plugin), module))

    assert not undeclared


def test_no_lock_file_is_committed() -> None:
    # It records the addresses that packages were downloaded from.
    assert "uv.lock" not in {file.name for file in files_of_the_project()}


def test_no_file_names_a_place_that_only_one_machine_has() -> None:
    # Put together here, so that this file does not name them either.
    directories = [f"/{name}/" for name in ("work", "root", "farm")]
    hosts = [
        ".".join(parts)
        for parts in (
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("registry", "npmjs"),
            ("deb", "debian"),
        )
    ]
    starts = r"(?<![\w.$}])(?:" + "|".join(directories) + ")"
    pattern = re.compile(starts + "|" + "|".join(map(re.escape, hosts)))
    found = []
    for file in files_of_the_project():
        text = file.read_bytes().decode(errors="replace")
        found += [(name_of(file), match[0]) for match in pattern.finditer(text)]

    assert not found


def test_constraints_pin_every_library_that_a_distribution_asks_for() -> None:
    pinned = {
        distribution_in(line).lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    asked = [
        each for group in read(ROOT)["dependency-groups"].values() for each in group
    ]
    for member in MEMBERS:
        metadata = project(member)
        asked += metadata["dependencies"]
        for extra in metadata.get("optional-dependencies", {}).values():
            asked += extra
    missing = {
        name
        for name in map(distribution_in, asked)
        if name.lower() not in pinned and not name.startswith("apscheduler")
    }

    assert not missing, "make constraints renews the file"
