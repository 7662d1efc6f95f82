"""Pickling of a work for workers that do not have the files in which its layers may be defined.

Classes of cnnpar are pickled by name, as usual. Struct classes of the user's script or modules, such as layers, are
pickled by value, with the functions of their module that they call: other machines do not have those files, and the
class that cloudpickle alone would make of them is not a struct.
"""

import io
import pickle
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import cloudpickle
import msgspec

from cnnpar.errors import InputError
from cnnpar.fingerprint import is_users
from cnnpar.parallel.work import Work
from cnnpar.text import one_line

_StructMeta: Any = type(msgspec.Struct)
_field: Any = msgspec.field
_OPTIONS = (
    *("frozen", "order", "eq", "array_like", "omit_defaults", "repr_omit_defaults", "forbid_unknown_fields"),
    *("dict", "weakref", "gc", "cache_hash", "tag", "tag_field"),
)
_Field = tuple[str, Any, Any]  # name, default, default factory; NODEFAULT where there is none


def pickle_work(work: Work) -> bytes:
    """Pickle a work without its data. Raises InputError that names what cannot be pickled of a user's layer."""
    buffer = io.BytesIO()
    with ExitStack() as by_value:
        try:
            _Pickler(buffer, by_value).dump(work)
        except Exception as error:  # whatever a user's object may raise
            reason = one_line(str(error), 200)
            raise InputError(f"what the layers are made of cannot be sent to workers: {reason}") from error
    return buffer.getvalue()


def unpickle_work(pickled: bytes) -> Work:
    """Return a work that this run's own driver has pickled."""
    work: Work = pickle.loads(pickled)
    return work


class _Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]  # it has no types
    """cloudpickle that also pickles struct classes by value."""

    def __init__(self, file: io.BytesIO, by_value: ExitStack) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._by_value = by_value

    def reducer_override(self, obj: Any) -> Any:
        """Return how to rebuild an object, as `__reduce__` does; called for all but numbers, texts and containers."""
        if not isinstance(obj, _StructMeta) or not is_users(obj):
            return super().reducer_override(obj)
        self._send_functions_of(obj.__module__)
        # Fields that a base class has are left to it.
        fields = [(f.name, f.default, f.default_factory) for f in msgspec.structs.fields(obj)]
        own = [field for field in fields if field[0] in vars(obj).get("__annotations__", ())]
        options = {name: getattr(obj.__struct_config__, name) for name in _OPTIONS}
        # What `_bare` makes is subtracted; `_complete` sets the rest, methods and constants, on the other side.
        bare = obj.__qualname__, obj.__module__, obj.__bases__, own, options
        rest = {name: value for name, value in vars(obj).items() if name not in vars(_bare(*bare))}
        return _bare, bare, rest, None, None, _complete  # in two steps, since methods may know their class

    def _send_functions_of(self, name: str) -> None:
        """Pickle functions of a module by value too, until the work is pickled, as those of a script always are."""
        if name in sys.modules and name not in {*cloudpickle.list_registry_pickle_by_value(), "__main__"}:
            cloudpickle.register_pickle_by_value(sys.modules[name])
            # Undone when the work is pickled: others that pickle in this process see no difference.
            self._by_value.callback(cloudpickle.unregister_pickle_by_value, sys.modules[name])


def _bare(
    name: str, module: str, bases: tuple[type, ...], fields: Iterable[_Field], options: dict[str, Any]
) -> type[msgspec.Struct]:
    """Make a struct class that has only its fields; all of them keyword arguments, as pickled instances give them."""
    namespace: dict[str, Any] = {"__module__": module, "__qualname__": name, "__annotations__": {}}
    for field, default, factory in fields:
        namespace["__annotations__"][field] = Any
        namespace[field] = _field(default=default, default_factory=factory)
    # Of a nested class, the qualified name has dots.
    made: type[msgspec.Struct] = _StructMeta(name.rpartition(".")[2], bases, namespace, kw_only=True, **options)
    return made


def _complete(cls: type[msgspec.Struct], rest: dict[str, Any]) -> None:
    """Set the methods and constants of a class that `_bare` made."""
    for name, value in rest.items():
        setattr(cls, name, value)
