"""From command-line overrides to checked settings: Hydra composes, nothing is instantiated."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar, cast, get_type_hints

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from automix.agents.config.agent import (
    AGENTS,
    DEFAULT_AGENT,
    all_names,
    names_of,
    refuse_unused,
    settings_class,
)
from automix.agents.config.schema import build, schema_of
from automix.agents.config.settings import RunSettings
from automix.core.errors import ConfigError, DataError, did_you_mean
from automix.core.files import read_yaml

T = TypeVar("T")

CONFIGS = Path(__file__).parent / "configs"
AGENT = "agent"
"""The section whose keys depend on its ``name``."""
SUITE, SUITE_FILE = "worlds.suite=", "worlds="
"""A suite, and the group that has them; its value may also be a file's path."""
HINT = "python run.py config shows every key"
TAKEN_LITERALLY = ("task.root", "trainer.teacher.weights", "policy", "name", "sweep.name")
"""Keys whose values are names of files and folders, in which Hydra's grammar would see more."""


def load_settings(overrides: Sequence[str]) -> RunSettings:
    """Compose the configuration with overrides and check it.

    Args:
        overrides: ``group=option`` or ``key=value``, as on the command line.

    Raises:
        ConfigError: If a group, option, key or value cannot be used.
    """
    overrides = [_literal(text) for text in overrides]
    for override, text in zip(_parsed(overrides), overrides, strict=True):
        _check_override(override, text)
    return build(RunSettings, composed(overrides))


def sets(overrides: Sequence[str], key: str) -> bool:
    """Return whether the overrides themselves set a key, rather than a file that they choose."""
    return any(override.key_or_group == key for override in _parsed(overrides))


class Choices(NamedTuple):
    """What one override of a sweep offers."""

    key: str
    words: list[str]
    """``key=value``, one override for each value."""
    several: bool
    """Whether it was written to offer several."""


def choices_of(overrides: Sequence[str]) -> list[Choices]:
    """Split overrides such as ``agent=ppo,a2c`` and ``seed=range(0,5)`` into those of one value.

    The grammar is Hydra's: values with commas between them, ``choice(...)``, ``range(...)`` and,
    for groups, ``glob(...)``.

    Raises:
        ConfigError: If one cannot be read, offers no value or endlessly many.
    """
    parsed = zip(_parsed(overrides), overrides, strict=True)
    return [_choices(override, text) for override, text in parsed]


def read_section(settings: type[T], section: str, overrides: Sequence[str]) -> T:
    """Build settings that are no part of a run's from overrides that begin with ``<section>.``.

    Raises:
        ConfigError: If a key is unknown, or a value cannot be used.
    """
    values: dict[str, Any] = {}
    known = [field.name for field in fields(settings)]  # type: ignore[arg-type]
    overrides = [_literal(text) for text in overrides]
    for override, text in zip(_parsed(overrides), overrides, strict=True):
        key = override.key_or_group.removeprefix(f"{section}.")
        if key not in known:
            raise ConfigError(
                f"{text!r}: there is no key {override.key_or_group!r}.{did_you_mean(key, known)}",
                f"{section}: {', '.join(known)}",
            )
        if override.is_sweep_override():
            raise ConfigError(f"{text!r} gives several values, wanted one")
        values[key] = override.value()
    _refuse_interpolation(values, section)
    checked = _checked(schema_of(cast(type, settings)), values, f"{section}.", "")
    return build(settings, checked, f"{section}.")


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the composed configuration as plain values.

    Raises:
        ConfigError: If a key or value cannot be used.
    """
    # Which keys an agent has is known once it is chosen, and a suite's are names: so Hydra takes
    # any, and they are checked afterwards.
    own = f"{AGENT}."
    texts = [f"++{text}" if text.startswith((own, SUITE)) else text for text in overrides]
    with _hydra():
        texts = [_stored(text) if _is_file(text) else text for text in texts]
        try:
            config = compose("config", overrides=texts)
            values = OmegaConf.to_container(config, resolve=False, throw_on_missing=True)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(_reason(error), HINT) from None
    assert isinstance(values, dict)
    refuse_unused(values[AGENT])
    _refuse_interpolation(values, "")
    own_schema = schema_of(_agent_class(values))  # type: ignore[arg-type]
    return {**values, AGENT: _checked(own_schema, values[AGENT], own, HINT)}


def settings_of(values: Any, where: str) -> RunSettings:
    """Check the content of a ``config.yaml`` and build the settings.

    Settings of other agents are left out: runs once wrote those of all.

    Raises:
        ConfigError: If a value cannot be used, ``where`` named.
        DataError: If it is no such content.
    """
    if not isinstance(values, Mapping):
        raise DataError(f"{where} does not hold settings", "start a run of its own")
    agent = values.get(AGENT)
    if isinstance(agent, Mapping):
        own, known = names_of(_agent_class(values)), all_names()
        kept = {key: agent[key] for key in agent if key in own or key not in known}
        values = {**values, AGENT: kept}
    hint = "it was changed, or is of another version of automix"
    _refuse_interpolation(values, "")
    schema = schema_of(RunSettings, _agent_class(values))
    return build(RunSettings, _checked(schema, values, f"{where}: ", hint))


def _checked(schema: type, values: Mapping[str, Any], prefix: str, hint: str) -> dict[str, Any]:
    """Return values with defaults for those that are missing, types checked."""
    try:
        merged = OmegaConf.merge(OmegaConf.structured(schema), values)
        checked = OmegaConf.to_container(merged, resolve=False)
    except OmegaConfBaseException as error:
        raise ConfigError(f"{prefix}{_reason(error)}", hint) from None
    assert isinstance(checked, dict)
    return checked  # type: ignore[return-value]


def _agent_class(values: Mapping[str, Any]) -> type:
    agent = values.get(AGENT)
    name = agent.get("name", DEFAULT_AGENT) if isinstance(agent, Mapping) else DEFAULT_AGENT
    return settings_class(str(name))


def _is_file(override: str) -> bool:
    return override.startswith(SUITE_FILE) and override.endswith((".yaml", ".yml"))


def _stored(override: str) -> str:
    """Let Hydra find a suite that is given by its file; return the override that chooses it."""
    path = Path(override.removeprefix(SUITE_FILE))
    content = read_yaml(path)
    if not isinstance(content, dict) or not isinstance(content.get("worlds"), dict):
        raise ConfigError(f"{path} holds no suite of worlds", "see docs/worlds.md for its form")
    _refuse_interpolation(content, str(path))
    name = f"_{path.stem}"
    ConfigStore.instance().store(name, content, group="worlds", package="_global_")
    return f"{SUITE_FILE}{name}"


def groups() -> dict[str, list[str]]:
    """Return the options of each config group."""
    return {
        folder.name: sorted(file.stem for file in folder.glob("*.yaml"))
        for folder in sorted(CONFIGS.iterdir())
        if folder.is_dir() and any(folder.glob("*.yaml"))
    }


@cache
def keys(settings: type = RunSettings, prefix: str = "") -> Mapping[str, Any]:
    """Return every key, dotted, with its default; sections map to None, agents share one."""
    found: dict[str, Any] = {}
    hints = get_type_hints(settings)
    for field in fields(settings):
        name, hint = prefix + field.name, hints[field.name]
        found[name] = None if is_dataclass(hint) else field.default
        if field.metadata.get("chosen"):
            for agent in AGENTS:
                found |= keys(cast(type, settings_class(agent)), name + ".")
        elif is_dataclass(hint):
            found |= keys(cast(type, hint), name + ".")
    return found


@contextmanager
def _hydra() -> Iterator[None]:
    """Start Hydra's compose API and leave none of its global state behind."""
    GlobalHydra.instance().clear()
    ConfigStore.instance().store("schema", node=schema_of(RunSettings))
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        yield
    GlobalHydra.instance().clear()


def _parsed(overrides: Sequence[str]) -> list[Override]:
    return [_parse(text) or _parse(_literal(text)) or _refuse(text) for text in overrides]


def _parse(text: str) -> Override | None:
    try:
        return OverridesParser.create().parse_overrides([text])[0]
    except HydraException:
        return None


def _refuse(text: str) -> NoReturn:
    key, _, value = text.partition("=")
    hint = "for example agent.learning_rate=1e-3 or task=digits"
    if "=" in value and value.startswith("["):
        hint = "text with '=' wants quotes: 'trainer.mix.options=[\"fmix.decay=2\"]'"
    elif key in keys() and value:
        hint = f"text wants quotes, and the shell quotes around them: {shlex.quote(_quoted(text))}"
    raise ConfigError(f"{text!r} is not an override, wanted key=value or group=option", hint)


def _literal(text: str) -> str:
    """Quote the value of a key that names a file or folder, unless the user did."""
    key, _, value = text.partition("=")
    quotes = value[:1] in ("'", '"') and value[-1:] == value[:1] and len(value) > 1
    return text if key not in TAKEN_LITERALLY or not value or quotes else _quoted(text)


def _quoted(text: str) -> str:
    """Put a value between double quotes, as Hydra's grammar takes any text."""
    key, _, value = text.partition("=")
    # Before a quote, the last one too, and nowhere else the grammar reads backslashes in pairs.
    value = re.sub(r'(\\+)(?="|$)', r"\1\1", value).replace('"', r"\"")
    return f'{key}="{value}"'


def _choices(override: Override, text: str) -> Choices:
    key = override.key_or_group
    if not override.is_sweep_override():
        return Choices(key, [text], several=False)
    if not override.is_discrete_sweep():
        raise ConfigError(
            f"{text!r} offers endlessly many values, wanted a list of them",
            f"for example {key}=1e-4,3e-4 or {key}=range(1,5)",
        )
    value = override.value()
    if getattr(value, "shuffle", False):
        raise ConfigError(f"{text!r}: shuffle is not offered", "the order of trials has no effect")
    if isinstance(value, Glob):
        # A group's options are files; for anything else there is nothing to choose from.
        found = value.filter(groups().get(key, []))
    else:
        found = list(override.sweep_string_iterator())
    if not found:
        raise ConfigError(f"{text!r} offers no value, wanted one or more")
    return Choices(key, [f"{key}={value}" for value in found], several=True)


def _check_override(override: Override, text: str) -> None:
    key = override.key_or_group
    if override.is_add() or override.is_delete() or override.is_force_add():
        raise ConfigError(
            f"{text!r}: keys can neither be added nor removed", f"write {key}=value to set one"
        )
    if override.is_sweep_override():
        raise ConfigError(
            f"{text!r} gives several values, wanted one", "put a list in brackets: key=[1,2]"
        )
    options = groups()
    value = override.value()
    if _is_file(text):
        return
    if key in options:
        # A suite that an experiment brings is left out again by worlds=[].
        if value not in options[key] and (key, value) != ("worlds", []):
            raise ConfigError(
                f"{text!r}: there is no {key} {str(value)!r}."
                f"{did_you_mean(str(value), options[key])}",
                f"{key}: {', '.join(options[key])}",
            )
        return
    known = keys()
    if key not in known:
        raise ConfigError(
            f"{text!r}: there is no key {key!r}.{_guess(key)}",
            HINT,
        )
    if known[key] is None:
        first = next(name for name in known if name.startswith(f"{key}."))
        raise ConfigError(
            f"{text!r}: {key!r} is a section, wanted one of its keys", f"for example {first}=value"
        )


def _guess(key: str) -> str:
    """Return the closest key: same last word, else near in its section, else anywhere."""
    known = [name for name, default in keys().items() if default is not None]
    section, _, last = key.rpartition(".")
    same_last = [name for name in known if name.rpartition(".")[2] == last]
    if same_last:
        return f" Did you mean {same_last[0]!r}?"
    near = [name for name in known if section and name.startswith(section + ".")]
    return did_you_mean(key, near) or did_you_mean(key, [*groups(), *known])


def _reason(error: Exception) -> str:
    """Return the one line of a Hydra error that says what is wrong."""
    # OmegaConf's own errors have a cause, with its placeholders unfilled, only under a tracer.
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__ or error
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    key = next((line.partition(": ")[2] for line in lines if line.startswith("full_key: ")), "")
    return f"{key}: {lines[0]}" if key else (lines[0] if lines else type(cause).__name__)


def _refuse_interpolation(value: Any, where: str) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            _refuse_interpolation(item, f"{where}.{key}" if where else str(key))
    elif isinstance(value, list):
        for item in value:
            _refuse_interpolation(item, where)
    elif isinstance(value, str) and "${" in value:
        raise ConfigError(f"{where} is {value!r}: interpolation is not offered", "write the value")
