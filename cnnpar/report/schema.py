"""JSON schema of the settings, for editors of TOML files: types, ranges and choices, and what each setting means."""

import inspect
import re
from typing import Any, get_args, get_type_hints

import msgspec

from cnnpar.config.presets import PRESETS
from cnnpar.config.sections import Config, Model
from cnnpar.nn.layers import LAYERS
from cnnpar.nn.residual import Residual

_DRAFT = "http://json-schema.org/draft-07/schema#"  # the one that editors' TOML servers know
_SETTING = re.compile(r"^    (\w+): .*  # (.+)$", re.MULTILINE)  # a field of a struct, and the comment that explains it


def settings_schema() -> str:
    """Return the schema as JSON text."""
    (whole, *layers), structs = msgspec.json.schema_components([Config, *LAYERS.values()])
    sections = [kind for hint in get_type_hints(Config).values() for kind in get_args(hint) or (hint,)]
    for cls in (*sections, *LAYERS.values()):
        _explain(structs[cls.__name__]["properties"], cls)
    for default in (Config().loss, Config().optimizer, Config().schedule):
        structs[type(default).__name__]["required"].remove("type")  # its table need not name it
    items = {"anyOf": layers}
    for cls, key in ((Model, "layers"), (Residual, "layers"), (Residual, "shortcut")):
        structs[cls.__name__]["properties"][key]["items"] = items
    structs["Model"]["properties"]["preset"] = {"enum": PRESETS, "description": "a network by name, instead of layers"}
    schema = {"$schema": _DRAFT, "title": "Settings of cnnpar", **whole, "$defs": structs}
    return msgspec.json.format(msgspec.json.encode(_in_draft_7(schema)), indent=1).decode()


def _in_draft_7(schema: Any) -> Any:
    """Return a schema of draft 2020-12 in the older one's words, in which tuples are spelled otherwise."""
    if isinstance(schema, dict):
        older = {key: _in_draft_7(value) for key, value in schema.items()}
        if "prefixItems" in older:
            older |= {"items": older.pop("prefixItems"), "additionalItems": False}
        return older
    return [_in_draft_7(value) for value in schema] if isinstance(schema, list | tuple) else schema


def _explain(properties: dict[str, Any], cls: type) -> None:
    """Add the comments beside the fields of a struct to their schemas, in place."""
    for name, comment in _SETTING.findall(inspect.getsource(cls)):
        if name in properties:  # and no attribute of the class
            properties[name]["description"] = comment
