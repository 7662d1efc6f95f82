"""Lead from an unknown option that is the name of a setting to the ways to change that setting."""

import difflib
import shlex
from collections.abc import Collection, Sequence
from dataclasses import fields
from typing import get_type_hints

from cnnpar.cli.options import LrFindOptions, Sets, TrainOptions
from cnnpar.config.resolve import setting_names, settings_named

_ANY = "1,1"  # a text that every option takes


def ways_to_set(option: str, arguments: Sequence[str], known: Collection[str]) -> str:
    """Return an error that says how the setting is changed that an unknown option names, exactly or nearly.

    "" where it names none, or is more like an option, and where the command has no `--set`. `arguments`: all that were
    typed; `known`: the names of the command's options.
    """
    if "--set" not in known:
        return ""
    name = option.partition("=")[0].lstrip("-").lower()
    settings = settings_named(name)
    if not settings:
        names = [other.removeprefix("--") for other in known if other.startswith("--")]
        own = sorted({key.replace("_", "-") for key in setting_names()} - set(names))
        alike = difflib.get_close_matches(name, [*names, *own], n=1)
        settings = settings_named(alike[0]) if alike and alike[0] in own else {}
    value, ways = _value(option, arguments), list[str]()
    if f"--{name}" in known:  # typed with one dash
        ways.append(f"--{name} {value}")
    for setting, types in settings.items():
        own_option = _options().get(setting)
        way = f"{own_option} {value}" if own_option in known else f"--set {setting}={value}"
        ways.append(f"{way} (with type {' or '.join(types)})" if types else way)
    return f"Unknown option: {option.partition('=')[0]}; did you mean {' or '.join(ways)}?" if ways else ""


def _value(option: str, arguments: Sequence[str]) -> str:
    """Return what was typed as the value of an option, as a shell takes it; VALUE where there is none."""
    typed = [argument.partition("=") for argument in arguments]
    for position, (name, equals, value) in enumerate(typed):
        if name.replace("_", "-") == option.partition("=")[0].replace("_", "-"):
            following = arguments[position + 1] if position + 1 < len(arguments) else "--"
            given = value if equals else "" if following.startswith("--") else following
            return shlex.quote(given) if given else "VALUE"
    return "VALUE"


def _options() -> dict[str, str]:
    """Return the options that stand for a setting, by the setting."""
    found = dict[str, str]()
    for options in (TrainOptions, LrFindOptions):
        hints = get_type_hints(options, include_extras=True)
        for field in fields(options):
            for what in hints[field.name].__metadata__:
                if isinstance(what, Sets):
                    tables = what.tables(_ANY)
                    changed = [f"{section}.{key}" for section, table in tables.items() for key in table if table[key]]
                    found |= dict.fromkeys(changed, f"--{field.name.replace('_', '-')}")
    return found
