"""A work as bytes for workers, which need none of the files that its layers may come from.

What cnnpar itself defines goes by its name, as in any pickle. Structs that a script or its modules define, as layers
of one's own, go by value, with the functions of the same module that they call: workers on other machines have no
such files, and cloudpickle would make a class of theirs that is no struct.
"""

import io
import pickle
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import msgspec
from ray import cloudpickle

from cnnpar.errors import InputError
from cnnpar.fingerprint import is_users
from cnnpar.parallel.work import Work

_StructMeta: Any = type(msgspec.Struct)
_field: Any = msgspec.field
_OPTIONS = (
    *("frozen", "order", "eq", "array_like", "omit_defaults", "repr_omit_defaults", "forbid_unknown_fields"),
    *("dict", "weakref", "gc", "cache_hash", "tag", "tag_field"),
)
_Field = tuple[str, Any, Any]  # name, default, and what makes one; NODEFAULT where there is none


def pickle_work(work: Work) -> bytes:
    """The work without its data. Raises InputError that says what of a layer of one's own cannot be sent."""
    buffer = io.BytesIO()
    with ExitStack() as by_value:
        try:
            _Pickler(buffer, by_value).dump(work)
        except Exception as error:  # whatever a user's object may raise
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"what the layers are made of cannot be sent to workers: {reason}") from error
    return buffer.getvalue()


def unpickle_work(parcel: bytes) -> Work:
    """The work that was wrapped by this run's own driver."""
    work: Work = pickle.loads(parcel)
    return work


class _Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]  # ray has no types
    """cloudpickle, which also knows structs by value."""

    def __init__(self, file: io.BytesIO, by_value: ExitStack) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._by_value = by_value

    def reducer_override(self, obj: Any) -> Any:
        """How the pickler takes apart an object that is no plain number, text or container."""
        if not isinstance(obj, _StructMeta) or not is_users(obj):
            return super().reducer_override(obj)
        self._send_functions_of(obj.__module__)
        fields = [(f.name, f.default, f.default_factory) for f in msgspec.structs.fields(obj)]
        own = [field for field in fields if field[0] in vars(obj).get("__annotations__", ())]
        options = {name: getattr(obj.__struct_config__, name) for name in _OPTIONS}
        bare = obj.__qualname__, obj.__module__, obj.__bases__, own, options
        rest = {name: value for name, value in vars(obj).items() if name not in vars(_bare(*bare))}
        return _bare, bare, rest, None, None, _complete  # in two steps, since methods may know their class

    def _send_functions_of(self, name: str) -> None:
        """Have the functions of a module, until all is pickled, go by value too, as those of a script always do."""
        if name in sys.modules and name not in {*cloudpickle.list_registry_pickle_by_value(), "__main__"}:
            cloudpickle.register_pickle_by_value(sys.modules[name])
            self._by_value.callback(cloudpickle.unregister_pickle_by_value, sys.modules[name])


def _bare(
    name: str, module: str, bases: tuple[type, ...], fields: Iterable[_Field], options: dict[str, Any]
) -> type[msgspec.Struct]:
    """A struct class with nothing but its fields, all of which are given by name, as pickles of its instances do."""
    namespace: dict[str, Any] = {"__module__": module, "__qualname__": name, "__annotations__": {}}
    for field, default, factory in fields:
        namespace["__annotations__"][field] = Any
        namespace[field] = _field(default=default, default_factory=factory)
    made: type[msgspec.Struct] = _StructMeta(name.rpartition(".")[2], bases, namespace, kw_only=True, **options)
    return made


def _complete(cls: type[msgspec.Struct], rest: dict[str, Any]) -> None:
    """Give a bare class its methods and constants."""
    for name, value in rest.items():
        setattr(cls, name, value)
