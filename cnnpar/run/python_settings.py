"""Settings as scripts give them to `cnnpar.train`: a file, tables, a `Config`, or those of a checkpoint, changed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from cnnpar.blas import portable_environment
from cnnpar.config.data import GIVEN, Data
from cnnpar.config.plain import plain
from cnnpar.config.resolve import read_toml, resolve, to_tables
from cnnpar.config.sections import Config
from cnnpar.errors import InputError
from cnnpar.run.resume import Resume, check_workers, settings_of
from cnnpar.text import shown


def settings_from(config: object, resumed: Resume | None, *, given: bool) -> Config:
    """Return the settings that `config` means, as `cnnpar.train` takes it; None: those of `resumed`, or the defaults.

    Tables change single settings of `resumed`, the checkpoint that the run goes on from. `given`: the samples are no
    files. Raises InputError.
    """
    own_workers = config is None  # those of the checkpoint, where there is one
    if config is None:
        resolved = settings_of(resumed.payload) if resumed else Config()
    elif isinstance(config, Config | Mapping):
        tables = plain(config)
        if resumed is not None and isinstance(config, Mapping):
            engine = tables.get("engine")
            own_workers = not (isinstance(engine, dict) and "workers" in engine)
            tables = _changed(to_tables(settings_of(resumed.payload)), tables)
        resolved = resolve(tables)
    elif isinstance(config, str | Path):
        resolved = resolve(read_toml(config), source=str(config))
    else:
        raise InputError(f"config: {shown(config)} is neither a TOML file, nor tables, nor a cnnpar.config.Config")
    if resumed is not None and own_workers:
        check_workers(resolved.engine, resumed.path)
    if resolved.engine.portable and portable_environment():
        raise InputError("engine.portable: kernels are chosen before numpy is loaded; use the command cnnpar-train")
    resolved = resolved.absolute()
    if not given:
        return resolved
    settings = resolved.data
    if config is not None:
        for key, value in (("train", settings.train), ("test", settings.test), ("name", settings.name)):
            if value not in ("", GIVEN, Data().name):
                what = f"config names data.{key} = {shown(value)}, and data=... gives others"
                raise InputError(f"{what}; leave one of them out")
    return replace(resolved, data=replace(settings, name=GIVEN, train="", test=""))


def _changed(settings: dict[str, Any], tables: Any) -> dict[str, Any]:
    """Return settings with those of some tables in their place; a table of another `type` is taken as a whole."""
    merged = dict(settings)
    for name, table in tables.items():
        old = settings.get(name)
        alike = (
            isinstance(table, dict) and isinstance(old, dict) and table.get("type", old.get("type")) == old.get("type")
        )
        merged[name] = {**old, **table} if alike and old is not None else table
    return merged
