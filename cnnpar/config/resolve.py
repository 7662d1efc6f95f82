"""Read, merge, check and write settings: TOML files, options of the command line, `--set section.key=value`.

A setting that is unknown, of the wrong type or out of range raises InputError, which names its origin (file or option),
its place, and what is allowed there.
"""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import msgspec

from cnnpar.config.choices import Piecewise
from cnnpar.config.float32 import unfit, unfit_numbers
from cnnpar.config.presets import preset_layers
from cnnpar.config.sections import Config
from cnnpar.config.wording import in_plain_words
from cnnpar.errors import InputError, reason
from cnnpar.files import open_input
from cnnpar.text import did_you_mean, one_line, shown

_SECTIONS = Config.__struct_fields__
_LARGEST_FILE = 1 << 18  # bytes of a TOML file
# A key of 100 parts, a.b.c. ...: reading one takes tomllib a time that grows with the square of their number.
_LONG_KEY = re.compile(r"""(?<![\w"'-])(?:(?:[\w-]+|"(?:\\.|[^"\\\n])*"|'[^'\n]*')[ \t]*\.[ \t]*){100}""")
_NETWORK = ("layers", "preset")  # keys of [model] that describe the network; only one of them may be given
_SHORT = {"lr": "learning_rate", "wd": "weight_decay"}  # what people write for a key
_COMPUTED = ("augment", "loss", "train", "optimizer", "schedule")  # sections whose numbers go into arithmetic
_DEFAULT_TYPES = {
    name: msgspec.to_builtins(getattr(Config(), name))["type"] for name in ("loss", "optimizer", "schedule")
}


class Option(NamedTuple):
    """One setting from the command line."""

    words: str  # as typed, quoted in error messages
    section: str
    key: str
    value: Any


def read_toml(path: str | Path) -> dict[str, Any]:
    """Return the tables of a TOML file, which may be a pipe.

    Raises InputError, for a syntax error with its line and column.
    """
    try:
        with os.fdopen(open_input(path, pipe=True), "rb") as file:
            content = file.read(_LARGEST_FILE + 1)
        if len(content) > _LARGEST_FILE:
            raise InputError(f"{path}: not a configuration: larger than {_LARGEST_FILE:,} bytes")
        text = content.decode()
        if _LONG_KEY.search(text):
            raise InputError(f"{path}: not a configuration: a key of more than 100 parts")
        import tomllib  # here, as no help needs it

        return tomllib.loads(text)
    except OSError as error:
        raise InputError(f"{path}: cannot read the configuration: {reason(error)}") from error
    except (ValueError, RecursionError) as error:  # bad syntax or UTF-8; nested too deep; too many digits
        raise InputError(f"{path}: not a TOML file: {one_line(str(error))}") from error


def resolve(
    tables: Mapping[str, Any],
    assignments: Sequence[str] = (),
    source: str = "configuration",
    options: Sequence[Option] = (),
) -> Config:
    """Merge TOML tables, options and `section.key=value` assignments, check the result and return it as a `Config`.

    Assignments override options, and options override tables. `model.preset` is replaced by the layers that it names
    (cnnpar/config/presets.py). Raises InputError, which names the option or `source`, the place, and what is allowed.
    """
    merged = {name: dict(table) if isinstance(table, Mapping) else table for name, table in tables.items()}
    assigned = [*map(parse_assignment, assignments)]
    _drop_replaced_network(merged, assigned)
    # `type` first: it clears the settings of another type, and must not clear those given beside it.
    for option in sorted((*options, *assigned), key=lambda option: option.key != "type"):
        _apply(merged, option)
    _expand_preset(merged, assigned, source)
    for name, kind in _DEFAULT_TYPES.items():
        table = merged.get(name)
        if isinstance(table, dict):
            table.setdefault("type", kind)
    try:
        config = msgspec.convert(merged, Config)
        _check_numbers(config)
    except msgspec.ValidationError as error:
        message = str(error)
        section, _, key = message.partition(" - at `$.")[2].rstrip("`").partition(".")
        words = [option.words for option in (*options, *assigned) if _is_about(option, section, key, message)]
        place, what = _with_allowed(message, section, key, merged)
        if words and "[" not in place:
            place = ""  # which the option says
        raise InputError(": ".join(filter(None, [words[-1] if words else source, place, what]))) from error
    return config


def to_tables(config: Config) -> dict[str, Any]:
    """Return a configuration as TOML tables; `resolve(to_tables(c)) == c`."""
    tables: dict[str, Any] = msgspec.to_builtins(config)
    return tables


def to_toml(config: Config) -> str:
    """Return a configuration as TOML text with every setting spelled out."""
    import tomli_w  # here, as no help needs it

    return tomli_w.dumps(to_tables(config))


def _check_numbers(config: Config) -> None:
    """Raise ValidationError, in msgspec's form, for the first setting that float32 does not hold."""
    for section in _COMPUTED:
        for place, why in unfit_numbers(getattr(config, section)):
            raise msgspec.ValidationError(f"{why} - at `$.{section}.{place}`")
    if isinstance(config.schedule, Piecewise):
        why = unfit(config.optimizer.learning_rate * max(factor for _, factor in config.schedule.points))
        if why:
            raise msgspec.ValidationError(f"the highest learning rate, {why} - at `$.schedule.points`")


def settings_named(name: str) -> dict[str, tuple[str, ...]]:
    """Return the settings that have a name, as "section.key", and the types that alone have each; () if all have it.

    The name is that of the key, or of section and key, with - or _ between the words.
    """
    wanted, found = re.sub("[-.]", "_", name), dict[str, tuple[str, ...]]()
    for section in _SECTIONS:
        kinds = _kinds(section)
        for key in dict.fromkeys(key for kind in kinds.values() for key in _keys(section, kind)):
            if wanted in (key, f"{section}_{key}"):
                having = tuple(tag for tag, kind in kinds.items() if key in _keys(section, kind))
                found[f"{section}.{key}"] = having if len(having) < len(kinds) else ()
    return found


def setting_names() -> set[str]:
    """Return the names of all settings, without their sections."""
    return {key for section in _SECTIONS for kind in _kinds(section).values() for key in _keys(section, kind)}


def _kinds(section: str) -> dict[str, Any]:
    """Return the structs that a section may be, by its `type`; a single one where it has none."""
    hint = get_type_hints(Config)[section]
    return {kind.__struct_config__.tag: kind for kind in get_args(hint) or (hint,)}


def _keys(section: str, kind: Any) -> list[str]:
    """Return the keys that a section of a kind may have in a file."""
    first = _NETWORK if section == "model" else ("type",) if section in _DEFAULT_TYPES else ()
    return list(dict.fromkeys((*first, *kind.__struct_fields__)))


def parse_assignment(assignment: str) -> Option:
    """Parse `section.key=value`, as `--set` takes it; a value that is not TOML is a string.

    Raises InputError for a bad form or section.
    """
    words = f"--set {assignment}"
    path, equals, text = assignment.partition("=")
    section, dot, key = path.strip().partition(".")
    if not equals or not dot or not key or "." in key:
        name = path.strip()
        named = f"{name}.type" if name in _DEFAULT_TYPES else next(iter(settings_named(_SHORT.get(name, name))), None)
        example = f"{named}={text.strip()}" if named and text.strip() else "train.epochs=5"
        raise InputError(f"{words}: expected section.key=value, for example --set {example}")
    if section not in _SECTIONS:
        alike = did_you_mean(section, _SECTIONS)
        raise InputError(f"{words}: no section `{section}`{alike}; there are {', '.join(_SECTIONS)}")
    import tomllib

    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        value = text.strip()
    return Option(words, section, key, value)


def _apply(tables: dict[str, Any], option: Option) -> None:
    """Change one setting, in place; another `type` drops the settings of the old one."""
    table = tables.setdefault(option.section, {})
    if not isinstance(table, dict):
        return  # the file has no table here; msgspec reports that with its place
    if option.key == "type" and table.get("type", _DEFAULT_TYPES.get(option.section)) != option.value:
        table.clear()  # for example the momentum of SGD, which Adam does not know
    table[option.key] = option.value


def _drop_replaced_network(tables: dict[str, Any], assigned: Sequence[Option]) -> None:
    """Remove `layers` and `preset` of the file where an assignment sets either of them."""
    model = tables.get("model")
    if isinstance(model, dict) and any(option.section == "model" and option.key in _NETWORK for option in assigned):
        tables["model"] = {key: value for key, value in model.items() if key not in _NETWORK}


def _expand_preset(tables: dict[str, Any], assigned: Sequence[Option], source: str) -> None:
    """Replace `model.preset` by the layers that it names. Raises InputError if unknown, or beside `layers`."""
    model = tables.get("model")
    if not isinstance(model, dict) or "preset" not in model:
        return
    words = next((option.words for option in assigned if (option.section, option.key) == ("model", "preset")), source)
    if "layers" in model:
        raise InputError(f"{words}: model.preset names layers, and model.layers lists others; give one of them")
    try:
        model["layers"] = preset_layers(model.pop("preset"))
    except InputError as error:
        raise InputError(f"{words}: {error}") from None


def _is_about(option: Option, section: str, key: str, message: str) -> bool:
    """Tell whether an error at `section.key` is about this option.

    An error of a whole section has key "", one of the whole configuration section "" too; both quote keys in backticks.
    """
    within = section in (option.section, "")
    return within and (option.key == key.partition("[")[0] if key else f"`{option.key}`" in message)


def _with_allowed(message: str, section: str, key: str, tables: Mapping[str, Any]) -> tuple[str, str]:
    """Return the place of msgspec's message, and the message in plain words, with what is allowed instead."""
    said, _, at = message.partition(" - at ")
    what, place = in_plain_words(said), at.strip("`").removeprefix("$").removeprefix(".")
    unknown = what.startswith("unknown ")
    allowed: Sequence[Any] = _SECTIONS
    whose = ""
    if section:
        kinds = _kinds(section)
        wanted = tables[section].get("type") if len(kinds) > 1 and isinstance(tables[section], dict) else None
        kind = next((kind for tag, kind in kinds.items() if tag == wanted), None)
        if kind is None or key == "type":
            allowed = list(kinds)
        elif not key:
            allowed = [key for key in _keys(section, kind) if key != "type"]
            whose = f" with type {wanted}" if wanted else ""
        else:
            hint = get_type_hints(kind, include_extras=True).get(key.partition("[")[0])
            allowed = get_args(hint) if get_origin(hint) is Literal else ()
            for meta in getattr(hint, "__metadata__", ()):
                if meta.description and what.startswith("expected"):
                    what = f"expected {meta.description}"
    alike = known = ""
    if what == "expected a table, not text" and section in _DEFAULT_TYPES and not key:
        alike = f"; write {section}.type = {shown(tables[section])}"
    if unknown and allowed:
        word = re.split("[`']", f"{what}'")[1]
        word = _SHORT.get(word, word)
        elsewhere = [] if key else [name for name in settings_named(word) if name.partition(".")[0] != section]
        alike = f" (did you mean {' or '.join(elsewhere)}?)" if elsewhere else did_you_mean(word, allowed)
    if allowed and (unknown or (key and what.startswith("expected"))):
        known = f"; allowed{whose}: {', '.join(map(str, allowed))}"
    if section and not key and what == said:  # of a section's own check, which names keys in backquotes
        what = re.sub("`([a-z_0-9]+)`", lambda found: _in_full(section, found), what)
        place = "" if f"{section}." in what else place
    return one_line(place), f"{one_line(what)}{alike}{known}"


def _in_full(section: str, found: re.Match[str]) -> str:
    """Return the name of a key with that of its section."""
    known = any(found[1] in _keys(section, kind) for kind in _kinds(section).values())
    return f"{section}.{found[1]}" if known else found[0]
