"""From a file, or a dict, to a configured scheduler."""

import configparser
import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from apscheduler.checks import Examination, Examiner, examine_jobs
from apscheduler.environment import expand
from apscheduler.problems import ConfigurationError, Problem, ProblemList, Source
from apscheduler.schedulers.base import BaseScheduler
from apscheduler.settings import PREFIX, nest

__all__ = (
    "ConfigurationError",
    "Examination",
    "Problem",
    "check_config",
    "create_scheduler",
    "load_config",
)

ROOT = PREFIX.rstrip(".")

# What sections begin with after the prefix.
SECTIONS = frozenset(("executors", "job_defaults", "jobs", "jobstores", "scheduler"))

INI_SUFFIXES = (".ini", ".cfg", ".conf")

# In INI files these options of declared jobs are JSON.
JSON_OPTIONS = ("args", "kwargs")

Config = str | os.PathLike[str] | Mapping[str, Any]


def create_scheduler(config: Config, default_type: str = "background") -> BaseScheduler:
    """Return a scheduler, not started, that is configured by a file or a dict.

    ``type`` in the section ``[apscheduler.scheduler]`` names the kind of scheduler; ``class`` may refer to one.

    :param config: path of an INI or TOML file; or a dict, flat or nested, with or without the prefix ``apscheduler.``;
        or what :func:`load_config` has returned
    :param default_type: the kind of scheduler where the configuration does not say
    :raises ConfigurationError: naming file, section, key and value of what is wrong
    """
    examiner = Examiner(_read(config), default_type)
    found = examiner.examine()
    found.problems.raise_fatal()
    assert found.scheduler_class is not None
    try:
        return found.scheduler_class(_with_prefix(found.config))
    except ConfigurationError:
        raise
    except Exception as exc:
        found.problems.add_general(exc)
        found.problems.raise_fatal()
        raise


def check_config(config: Config, default_type: str = "blocking") -> Examination:
    """Return everything that is wrong in a configuration, and the first run times of the jobs it declares.

    Plugins and the functions of declared jobs are imported. Nothing is started, and no store is touched.

    :raises ConfigurationError: if the file cannot be read as a configuration
    """
    unreadable: list[Problem] = []
    if isinstance(config, (str, os.PathLike)):
        config, problems = _read_file(config)
        unreadable = problems.problems
    found = Examiner(_read(config), default_type).examine()
    examine_jobs(found)
    others = found.problems.problems
    found.problems.problems = unreadable + [
        each for each in others if not _may_follow(each, unreadable)
    ]
    return found


def _may_follow(problem: Problem, unreadable: Sequence[Problem]) -> bool:
    """Return whether a problem is only there because a value could not be read: one with it, or with its section."""
    return any(
        f"{problem.place} ".startswith(f"{each.place} ")
        or f"{each.place} ".startswith(f"{problem.place} ")
        for each in unreadable
    )


def load_config(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the configuration in an INI or TOML file, with the prefix, as schedulers take it.

    Read are the section ``[apscheduler]``, sections below it such as ``[apscheduler.jobstores.default]``, and keys
    that begin with ``apscheduler.`` in any other section. ``${NAME}`` is replaced by the environment variable of that
    name; ``$${`` stands for ``${``.

    :raises ConfigurationError: if the file cannot be read, or a variable is missing
    """
    config, problems = _read_file(path)
    problems.raise_fatal()
    return config


def _read_file(
    path: str | os.PathLike[str],
) -> tuple[dict[str, Any], ProblemList]:
    """Return the configuration in a file, and what is wrong with single values, which are left as they are written.

    :raises ConfigurationError: if the file as a whole cannot be read
    """
    file = Path(path)
    text, modified = _read_text(file)
    suffix = file.suffix.lower()
    if suffix in INI_SUFFIXES:
        ini = _parse_ini(file, text)
        entries, names = list(_read_ini(ini)), ini.sections()
    elif suffix == ".toml":
        toml = _parse_toml(file, text)
        entries, names = list(_walk(toml, ())), [*_tables_in(toml)]
    else:
        known = ", ".join((*INI_SUFFIXES, ".toml"))
        raise _error(file, f"the suffix must be one of {known}, but is {suffix!r}")
    sections = {
        ".".join((ROOT, *keys)): section for section, keys, _ in entries if section
    }
    unprefixed = [name for name in names if name.partition(".")[0] in SECTIONS]
    source = Source(str(path), modified, sections, unprefixed)
    problems = ProblemList(source, {})
    config: dict[str, Any] = {}
    for _, keys, value in entries:
        section, key = ".".join((ROOT, *keys[:-1])), keys[-1]
        try:
            value = _expanded(keys, value)
        except ValueError as exc:
            problems.add(section, key, exc)
        try:
            _enter(config, keys, value)
        except ValueError as exc:
            problems.add(section, key, exc)
    if "source" in config:
        text = "stands for the file itself and cannot be set in it: remove it"
        problems.add(ROOT, "source", text)
    return {**_with_prefix(config), PREFIX + "source": source}, problems


def _error(file: Path, text: str) -> ConfigurationError:
    return ConfigurationError([Problem(str(file), text)])


def _read_text(file: Path) -> tuple[str, float]:
    try:
        return file.read_text("utf-8-sig"), file.stat().st_mtime
    except OSError as exc:
        raise _error(file, f"cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise _error(file, f"is not encoded in UTF-8: {exc}") from exc


# An entry: the section it is written in if that is none of ours, the keys that lead to it, its value.
_Entry = tuple[str | None, tuple[str, ...], Any]


def _parse_ini(file: Path, text: str) -> configparser.RawConfigParser:
    # [DEFAULT] is a section like any other: its keys would become options of every job and store.
    parser = configparser.RawConfigParser(default_section="")
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # keys keep their case
    try:
        parser.read_string(text, str(file))
    except configparser.Error as exc:
        raise _error(file, exc.message.replace("\n", " ")) from exc
    return parser


def _read_ini(parser: configparser.RawConfigParser) -> Iterator[_Entry]:
    for section in parser.sections():
        is_ours = section == ROOT or section.startswith(PREFIX)
        branch = _split(section[len(PREFIX) :]) if is_ours else ()
        if is_ours and not parser[section] and branch:
            yield None, branch, {}
        for key, value in parser[section].items():
            if key.startswith(PREFIX):
                yield section, _split_key(key[len(PREFIX) :]), value
            elif is_ours:
                keys = (key,) if branch[:1] == ("jobs",) else _split_key(key)
                yield None, (*branch, *keys), value


def _split(path: str) -> tuple[str, ...]:
    """Return the keys that lead to a section; the name of a job may contain dots."""
    if not path:
        return ()
    head, _, rest = path.partition(".")
    if head == "jobs" and rest:
        return head, rest
    return tuple(path.split("."))


def _split_key(path: str) -> tuple[str, ...]:
    """Return the keys that lead to a value."""
    section, _, key = path.rpartition(".")
    return (*_split(section), key)


def _parse_toml(file: Path, text: str) -> dict[str, Any]:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise _error(file, f"is not valid TOML: {exc}") from exc
    if not isinstance(data.get(ROOT, {}), dict):
        raise _error(file, f"{ROOT!r} must be a table, but is {data[ROOT]!r}")
    return data


def _tables_in(toml: Mapping[str, Any]) -> Iterator[str]:
    """Return the names of the tables at the top, and of those below."""
    for name, value in toml.items():
        if isinstance(value, dict):
            inner = [f"{name}.{key}" for key in value if isinstance(value[key], dict)]
            yield from inner or [name]


def _walk(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[_Entry]:
    """Find our tables and keys in any table."""
    section = ".".join(path)
    for key, value in table.items():
        if key == ROOT and isinstance(value, dict):
            for keys, leaf in _leaves(value, ()):
                yield (section or None), keys, leaf
        elif key.startswith(PREFIX):
            yield section, _split_key(key[len(PREFIX) :]), value
        elif isinstance(value, dict):
            yield from _walk(value, (*path, key))


def _leaves(
    table: Mapping[str, Any], path: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in table.items():
        keys = (*path, key)
        is_option = path[:1] == ("jobs",) and len(keys) > 2
        if isinstance(value, dict) and value and not is_option:
            yield from _leaves(value, keys)
        else:
            yield keys, value


def _expanded(keys: tuple[str, ...], value: Any) -> Any:
    """Return the value with environment variables in it; JSON is read before, so that they need no escaping."""
    if isinstance(value, str):
        if keys[0] == "jobs" and keys[-1] in JSON_OPTIONS:
            try:
                value = json.loads(value)
            except ValueError:
                return value  # whoever makes the job says what is wrong
            return _expanded((), value) if isinstance(value, (list, dict)) else value
        return expand(value)
    if isinstance(value, list):
        return [_expanded(("",), item) for item in value]
    if isinstance(value, dict):
        return {key: _expanded(("",), item) for key, item in value.items()}
    return value


def _enter(config: dict[str, Any], keys: tuple[str, ...], value: Any) -> None:
    node = config
    for key in keys[:-1]:
        node = node.setdefault(key, {})
        if not isinstance(node, dict):
            raise ValueError(  # what is wrong is the file
                f"{key!r} has the value {node!r}, so that nothing can be below it"
            )
    leaf = keys[-1]
    if leaf in node and not (isinstance(value, dict) and isinstance(node[leaf], dict)):
        raise ValueError("is given twice")
    if isinstance(value, dict):
        node.setdefault(leaf, {}).update(value)
    else:
        node[leaf] = value


def _with_prefix(config: Mapping[str, Any]) -> dict[str, Any]:
    return {PREFIX + key: value for key, value in config.items()}


def _read(config: Config) -> dict[str, Any]:
    """Return a configuration nested, without prefix, and not shared with the caller.

    :raises ConfigurationError: if it is no configuration
    """
    if isinstance(config, (str, os.PathLike)):
        config = load_config(config)
    try:
        if not isinstance(config, Mapping):
            raise TypeError(  # one place makes the error
                f"expected the path of a file or a dict, but got {config!r}"
            )
        inner = config.get(ROOT)
        if isinstance(inner, Mapping):
            return nest(inner, None)
        has_prefix = any(str(key).startswith(PREFIX) for key in config)
        return nest(config, PREFIX if has_prefix else None)
    except TypeError as exc:
        raise ConfigurationError([Problem("", str(exc))]) from exc
