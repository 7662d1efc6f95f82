"""Settings read, merged, checked, and written: TOML files, options of the command line, `--set section.key=value`.

Whatever is unknown, of the wrong type or out of range is an error that names where it came from, its place, and what
is allowed there.
"""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec
import tomli_w

from cnnpar.config.presets import preset_layers
from cnnpar.config.sections import Config
from cnnpar.errors import InputError, reason

_SECTIONS = Config.__struct_fields__
_NETWORK = ("layers", "preset")  # of [model]: two ways to say the same
_DEFAULT_TYPES = {
    name: msgspec.to_builtins(getattr(Config(), name))["type"] for name in ("loss", "optimizer", "schedule")
}


class Option(NamedTuple):
    """One setting from the command line."""

    words: str  # as they were typed, for errors
    section: str
    key: str
    value: Any


def read_toml(path: str | Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises InputError with line and column of a syntax error."""
    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise InputError(f"{path}: cannot read the configuration: {reason(error)}") from error
    except (ValueError, RecursionError) as error:  # a syntax error, bytes that are no text, a number without end
        raise InputError(f"{path}: not a TOML file: {error}") from error


def resolve(
    tables: Mapping[str, Any],
    assignments: Sequence[str] = (),
    source: str = "configuration",
    options: Sequence[Option] = (),
) -> Config:
    """A checked `Config` from TOML tables, options that win over them, and `section.key=value` assignments that win.

    `model.preset` becomes the layers that it names (cnnpar/config/presets.py).
    Raises InputError that names the option or `source`, the place, and what is allowed there.
    """
    merged = {name: dict(table) if isinstance(table, Mapping) else table for name, table in tables.items()}
    assigned = sorted(map(_assigned, assignments), key=lambda option: option.key != "type")
    _leave_room(merged, assigned)
    for option in (*options, *assigned):
        _put(merged, option)
    _fill_in(merged, assigned, source)
    for name, kind in _DEFAULT_TYPES.items():
        table = merged.get(name)
        if isinstance(table, dict):
            table.setdefault("type", kind)
    try:
        return msgspec.convert(merged, Config)
    except msgspec.ValidationError as error:
        message = str(error)
        section, _, key = message.partition(" - at `$.")[2].rstrip("`").partition(".")
        words = [option.words for option in (*options, *assigned) if _concerns(option, section, key, message)]
        raise InputError(f"{words[-1] if words else source}: {_explain(message, section, key, merged)}") from error


def to_tables(config: Config) -> dict[str, Any]:
    """The plain tables of a configuration; `resolve(to_tables(c)) == c`."""
    tables: dict[str, Any] = msgspec.to_builtins(config)
    return tables


def to_toml(config: Config) -> str:
    """The configuration as TOML text, every setting spelled out."""
    return tomli_w.dumps(to_tables(config))


def _assigned(assignment: str) -> Option:
    """`section.key=value` taken apart; the value is read as TOML, or else as a plain string."""
    words = f"--set {assignment}"
    path, equals, text = assignment.partition("=")
    section, dot, key = path.strip().partition(".")
    if not equals or not dot or not key or "." in key:
        raise InputError(f"{words}: expected section.key=value, for example --set train.epochs=5")
    if section not in _SECTIONS:
        raise InputError(f"{words}: no section `{section}`; there are {', '.join(_SECTIONS)}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text.strip()
    return Option(words, section, key, value)


def _put(tables: dict[str, Any], option: Option) -> None:
    """Change one setting."""
    table = tables.setdefault(option.section, {})
    if not isinstance(table, dict):
        return  # the file is wrong there, and `resolve` is about to say so
    if option.key == "type" and table.get("type", _DEFAULT_TYPES.get(option.section)) != option.value:
        table.clear()  # settings of another loss, optimizer or schedule mean nothing to this one
    table[option.key] = option.value


def _leave_room(tables: dict[str, Any], assigned: Sequence[Option]) -> None:
    """Drop the network of the file where another one is assigned, as layers or as a preset."""
    model = tables.get("model")
    if isinstance(model, dict) and any(option.section == "model" and option.key in _NETWORK for option in assigned):
        tables["model"] = {key: value for key, value in model.items() if key not in _NETWORK}


def _fill_in(tables: dict[str, Any], assigned: Sequence[Option], source: str) -> None:
    """Put the layers of a preset where its name is."""
    model = tables.get("model")
    if not isinstance(model, dict) or "preset" not in model:
        return
    words = next((option.words for option in assigned if (option.section, option.key) == ("model", "preset")), source)
    if "layers" in model:
        raise InputError(f"{words}: `preset` names layers, and `layers` lists others; give one of them - at `$.model`")
    try:
        model["layers"] = preset_layers(model.pop("preset"))
    except InputError as error:
        raise InputError(f"{words}: {error} - at `$.model.preset`") from None


def _concerns(option: Option, section: str, key: str, message: str) -> bool:
    """Whether an error at that place is about this option; one about a section, or all, names the keys it means."""
    within = section in (option.section, "")
    return within and (option.key == key.partition("[")[0] if key else f"`{option.key}`" in message)


def _explain(message: str, section: str, key: str, tables: Mapping[str, Any]) -> str:
    """msgspec's message, with what is allowed where a key, a type or a choice is unknown."""
    unknown = message.startswith(("Object contains unknown field", "Invalid enum value", "Invalid value"))
    what, at, place = message.partition(" - at ")
    if what.startswith("Expected `array`"):
        what += """ (a list; on a command line '["a", "b"]' or [1, 2])"""
    allowed: Sequence[Any] = _SECTIONS
    whose = ""
    if section:
        hint = get_type_hints(Config)[section]
        kinds = {kind.__struct_config__.tag: kind for kind in get_args(hint) or (hint,)}
        wanted = tables[section].get("type") if len(kinds) > 1 and isinstance(tables[section], dict) else None
        kind = next((kind for tag, kind in kinds.items() if tag == wanted), None)
        if kind is None or key == "type":
            allowed = list(kinds)
        elif not key:
            fields = kind.__struct_fields__
            allowed = list(dict.fromkeys((*_NETWORK, *fields))) if section == "model" else fields
            whose = f" with type {wanted}" if wanted else ""
        else:
            hint = get_type_hints(kind, include_extras=True).get(key.partition("[")[0])
            allowed = get_args(hint) if get_origin(hint) is Literal else ()
            for meta in getattr(hint, "__metadata__", ()):
                what = f"expected {meta.description}" if meta.description else what
    known = f"; allowed{whose}: {', '.join(map(str, allowed))}" if unknown and allowed else ""
    return what + at + place + known
