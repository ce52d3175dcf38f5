import importlib
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, EntryPoints, version
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

import apscheduler
from apscheduler import plugins
from apscheduler.distributions import (
    COMPONENTS,
    DISTRIBUTIONS,
    MissingDistributionFinder,
    install_finder,
)
from apscheduler.plugins import (
    KINDS,
    Component,
    ComponentMap,
    Kind,
    MissingDistributionError,
    PluginNotFoundError,
    forget_components,
    installed_components,
    load_component,
    resolve_reference,
)

Install = Callable[..., None]


@pytest.fixture(autouse=True)
def fresh_lookups() -> Iterator[None]:
    forget_components()
    yield
    forget_components()


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Return a function that makes distributions appear as if pip had put them there."""
    modules_before = set(sys.modules)

    def install(
        distribution: str,
        kind: str,
        entry_points: dict[str, str],
        *,
        release: str = "1.0",
        **modules: str,
    ) -> None:
        directory = tmp_path / distribution
        metadata = directory / f"{distribution}-{release}.dist-info"
        metadata.mkdir(parents=True)
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {release}\n"
        )
        lines = [f"{name} = {value}" for name, value in entry_points.items()]
        (metadata / "entry_points.txt").write_text(
            "\n".join([f"[apscheduler.{kind}s]", *lines])
        )
        for module, source in modules.items():
            (directory / f"{module}.py").write_text(source)
        monkeypatch.syspath_prepend(directory)
        forget_components()

    yield install
    for module in set(sys.modules) - modules_before:
        if not module.startswith("apscheduler"):
            del sys.modules[module]


@pytest.fixture
def without_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave no metadata of any distribution, as in a frozen application."""
    monkeypatch.setattr("importlib.metadata.entry_points", EntryPoints)


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that makes a module look like it is not installed."""

    class Hider:
        @staticmethod
        def find_spec(name: str, path: object = None, target: object = None) -> None:
            if name in hidden:
                MissingDistributionFinder.find_spec(name)
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    hidden: set[str] = set()
    monkeypatch.setattr("sys.meta_path", [Hider, *sys.meta_path])

    def hide(name: str) -> None:
        hidden.add(name)
        monkeypatch.delitem(sys.modules, name, raising=False)
        package, _, module = name.rpartition(".")
        if package:
            parent = importlib.import_module(package)
            monkeypatch.delattr(parent, module, raising=False)

    return hide


def test_a_component_is_found_by_the_name_of_its_entry_point(install: Install) -> None:
    install(
        "noon", "trigger", {"noon": "noon_trigger:Noon"}, noon_trigger="class Noon: ..."
    )

    assert load_component("trigger", "noon").__qualname__ == "Noon"


def test_only_the_component_that_is_asked_for_is_imported(install: Install) -> None:
    install(
        "pair",
        "trigger",
        {"wanted": "wanted_module:Wanted", "other": "other_module:Other"},
        wanted_module="class Wanted: ...",
        other_module="class Other: ...",
    )

    load_component("trigger", "wanted")

    assert "wanted_module" in sys.modules
    assert "other_module" not in sys.modules


def test_listing_components_imports_none_of_them(install: Install) -> None:
    install("noon", "trigger", {"noon": "noon_trigger:Noon"}, release="7.1")

    noon = installed_components("trigger")["noon"]

    listed = (noon.name, noon.value, noon.distribution, noon.version)
    assert listed == ("noon", "noon_trigger:Noon", "noon", "7.1")
    assert "noon_trigger" not in sys.modules


def test_entry_points_are_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []

    def entry_points() -> EntryPoints:
        reads.append(1)
        groups = ("apscheduler.triggers", "apscheduler.jobstores")
        return EntryPoints(
            EntryPoint("text", "builtins:str", group) for group in groups
        )

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)

    for _ in range(3):
        load_component("trigger", "text")
        load_component("jobstore", "text")

    assert len(reads) == 1


def test_a_name_of_another_kind_is_not_found(install: Install) -> None:
    install("noon", "trigger", {"noon": "builtins:str"})

    with pytest.raises(PluginNotFoundError, match="No executor named 'noon'"):
        load_component("executor", "noon")


@pytest.mark.parametrize(
    ("kind", "name", "called", "distribution"),
    [
        ("jobstore", "redis", "job store", "apscheduler-store-redis"),
        ("executor", "processpool", "executor", "apscheduler-executor-pool"),
        ("trigger", "and", "trigger", "apscheduler-trigger-combining"),
        ("scheduler", "qt", "scheduler", "apscheduler-scheduler-qt"),
    ],
)
@pytest.mark.usefixtures("without_metadata")
def test_a_missing_component_of_ours_names_its_distribution(
    kind: Kind, name: str, called: str, distribution: str, absent: Callable[[str], None]
) -> None:
    absent(COMPONENTS[kind][name].partition(":")[0])

    with pytest.raises(PluginNotFoundError) as caught:
        load_component(kind, name)

    assert str(caught.value) == (
        f"No {called} named {name!r} is installed. "
        f"It comes with {distribution}: pip install {distribution}"
    )


@pytest.mark.usefixtures("without_metadata")
def test_an_unknown_name_lists_what_is_installed_and_hints_at_no_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    points = EntryPoints(
        EntryPoint(name, "builtins:str", "apscheduler.triggers")
        for name in ("tea", "noon")
    )
    monkeypatch.setattr("importlib.metadata.entry_points", lambda: points)
    monkeypatch.setattr(plugins, "_is_importable", lambda module: False)

    with pytest.raises(LookupError) as caught:
        load_component("trigger", "reddis")

    message = "No trigger named 'reddis' is installed. Installed: noon, tea"
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["pip install evil", "redis ", "apscheduler", ""])
def test_no_spelling_of_a_user_reaches_an_install_command(name: str) -> None:
    with pytest.raises(PluginNotFoundError) as caught:
        load_component("jobstore", name)

    assert "Installed:" in str(caught.value)
    assert caught.value.distribution is None


@pytest.mark.parametrize("name", [None, 3, ["redis"], object])
def test_a_type_that_is_not_a_name_raises_type_error(name: object) -> None:
    with pytest.raises(TypeError, match="must be a name") as caught:
        load_component("jobstore", name)  # type: ignore[arg-type]  # the point

    assert repr(name) in str(caught.value)


def test_an_unknown_kind_raises_value_error() -> None:
    with pytest.raises(ValueError, match="'store' is no kind of component"):
        load_component("store", "redis")  # type: ignore[arg-type]  # the point


@pytest.mark.usefixtures("without_metadata")
def test_our_components_are_found_without_package_metadata(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noon = ModuleType("noon_module")
    noon.Noon = type("Noon", (), {})  # type: ignore[attr-defined]  # made just now
    monkeypatch.setitem(sys.modules, "noon_module", noon)
    monkeypatch.setattr(
        plugins, "_is_importable", lambda module: module == noon.__name__
    )
    monkeypatch.setattr(plugins, "COMPONENTS", {"trigger": {"n": "noon_module:Noon"}})

    assert load_component("trigger", "n") is noon.Noon
    assert installed_components("trigger")["n"].version is None


@pytest.mark.usefixtures("without_metadata")
def test_listing_without_metadata_leaves_out_what_is_not_there(
    absent: Callable[[str], None],
) -> None:
    absent("apscheduler.jobstores.redis")

    assert "redis" not in installed_components("jobstore")


def test_a_missing_library_of_an_installed_component_is_named(
    install: Install,
) -> None:
    install(
        "noon",
        "trigger",
        {"noon": "noon_trigger:Noon"},
        noon_trigger="import library_that_nobody_has",
    )

    with pytest.raises(ModuleNotFoundError) as caught:
        load_component("trigger", "noon")

    assert str(caught.value) == (
        "The trigger 'noon' (noon_trigger:Noon) cannot be imported: "
        "No module named 'library_that_nobody_has'"
    )
    assert caught.value.name == "library_that_nobody_has"


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("Moon = 1", ImportError, "has no attribute 'Noon'"),
        ("raise ImportError('too old')", ImportError, "cannot be imported: too old"),
        ("import apscheduler.schedulers.qt", ImportError, "apscheduler-scheduler-qt"),
        ("Noon = 12", TypeError, "must be a class, but is 12"),
    ],
)
def test_a_broken_component_is_named_with_its_fault(
    install: Install,
    absent: Callable[[str], None],
    source: str,
    error: type[Exception],
    message: str,
) -> None:
    absent("apscheduler.schedulers.qt")
    install("noon", "trigger", {"noon": "noon_trigger:Noon"}, noon_trigger=source)

    with pytest.raises(error, match=r"trigger 'noon' \(noon_trigger:Noon\)") as caught:
        load_component("trigger", "noon")

    assert message in str(caught.value)


def test_our_component_wins_over_another_of_the_same_name_with_a_warning(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    ours = COMPONENTS["jobstore"]["memory"]
    install("ours", "jobstore", {"memory": ours})
    install("theirs", "jobstore", {"memory": "their_store:MemoryJobStore"})

    assert installed_components("jobstore")["memory"].value == ours
    assert f"their_store:MemoryJobStore and {ours}; using {ours}" in caplog.text


def test_the_same_component_registered_twice_is_no_conflict(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("one", "trigger", {"noon": "noon_trigger:Noon"})
    install("two", "trigger", {"noon": "noon_trigger:Noon"})

    assert "noon" in installed_components("trigger")
    assert not caplog.records


def test_a_component_map_reads_entry_points_when_first_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reads: list[int] = []

    def entry_points() -> EntryPoints:
        reads.append(1)
        return EntryPoints([EntryPoint("text", "builtins:str", "apscheduler.triggers")])

    monkeypatch.setattr("importlib.metadata.entry_points", entry_points)
    components = ComponentMap("trigger")
    assert not reads

    assert components["text"].load() is str
    assert "text" in components
    assert len(reads) == 1


def test_a_component_map_takes_registrations_of_its_own() -> None:
    components, other = ComponentMap("trigger"), ComponentMap("trigger")

    components["mine"] = SimpleNamespace(load=lambda: int)

    assert components["mine"].load() is int
    assert "mine" not in other
    assert "mine" not in installed_components("trigger")


def test_a_component_removed_from_a_map_stays_removed(install: Install) -> None:
    install("noon", "trigger", {"noon": "builtins:str"})
    components = ComponentMap("trigger")

    del components["noon"]

    assert "noon" not in components
    assert components.get("noon") is None
    assert len(components) == len([*components])


def test_an_unknown_name_in_a_map_raises_key_error_like_any_mapping() -> None:
    with pytest.raises(KeyError, match="nobody"):
        ComponentMap("executor")["nobody"]


def test_showing_a_map_does_not_read_entry_points(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr("importlib.metadata.entry_points")

    assert repr(ComponentMap("executor")) == "<ComponentMap executor: not read yet>"


def test_a_class_is_resolved_to_itself() -> None:
    assert resolve_reference(Component) is Component


def test_a_reference_is_resolved_to_its_class() -> None:
    assert resolve_reference("apscheduler.plugins:Component") is Component


def test_a_reference_to_something_else_than_a_class_raises_type_error() -> None:
    with pytest.raises(TypeError, match="'apscheduler:version' must name a class"):
        resolve_reference("apscheduler:version")


@pytest.mark.parametrize(("module", "distribution"), sorted(DISTRIBUTIONS.items()))
def test_importing_a_missing_module_of_ours_names_its_distribution(
    module: str, distribution: str, absent: Callable[[str], None]
) -> None:
    absent(module)
    package, _, name = module.rpartition(".")
    message = f"{module} comes with {distribution}: pip install {distribution}"

    with pytest.raises(ModuleNotFoundError) as plain:
        importlib.import_module(module)
    with pytest.raises(ModuleNotFoundError) as as_attribute:
        __import__(package, fromlist=[name])  # as ``from package import name`` does

    assert str(plain.value) == str(as_attribute.value) == message


def test_importing_an_unknown_module_gives_the_ordinary_error() -> None:
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module("apscheduler.jobstores.nosuch")

    assert type(caught.value) is ModuleNotFoundError
    assert str(caught.value) == "No module named 'apscheduler.jobstores.nosuch'"


def test_the_finder_comes_last_and_only_once() -> None:
    install_finder()

    assert sys.meta_path.count(MissingDistributionFinder) == 1
    script = "import sys, apscheduler; print(sys.meta_path[-1].__name__)"
    assert run_python(script) == MissingDistributionFinder.__name__


@pytest.mark.parametrize(
    "error",
    [
        PluginNotFoundError("jobstore", "redis"),
        PluginNotFoundError("trigger", "fooo", ["date", "cron"]),
        MissingDistributionError("apscheduler.cli", "apscheduler-cli"),
    ],
    ids=lambda error: str(error)[:30],
)
def test_errors_survive_the_way_between_processes(error: Exception) -> None:
    copy = pickle.loads(pickle.dumps(error))

    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


def test_every_kind_has_a_table_of_our_components() -> None:
    assert KINDS.keys() == COMPONENTS.keys()


def test_importing_the_package_reads_no_metadata() -> None:
    script = "import sys, apscheduler; print('importlib.metadata' in sys.modules)"

    assert run_python(script) == "False"


def test_the_version_is_that_of_the_installed_distribution() -> None:
    assert apscheduler.release == version("apscheduler-core")
    assert (
        apscheduler.__version__
        == apscheduler.version
        == "{}.{}.{}".format(*apscheduler.version_info)
    )


def test_the_version_satisfies_what_extensions_of_3_x_require() -> None:
    assert (3, 11) < apscheduler.version_info < (4,)


def run_python(script: str) -> str:
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.strip()
