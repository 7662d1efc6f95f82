"""Views of a network's flat vectors, by layer: made once for the vectors that a run uses again and again."""

from cnnpar.nn.chain import Chain
from cnnpar.nn.layout import Layout
from cnnpar.nn.shapes import Array

_MOST = 32  # rows of a worker's slots; a step uses fewer

ByLayer = list[dict[str, Array]]  # parameters and buffers of each layer by their names within it


class Views:
    """The views of vectors that a layout describes.

    Kept are those of the last vector, and of parts of larger arrays that are written to, as the slots of gradients are.
    Others would not be freed.
    """

    def __init__(self, layout: Layout, chain: Chain) -> None:
        """Cut vectors by `layout`, for the layers of `chain`."""
        self._layout = layout
        self._names = [
            {name: f"{layer.name}.{name}" for name in (*parameters, *buffers)}
            for layer, parameters, buffers in zip(chain.layers, chain.parameters, chain.buffers, strict=True)
        ]
        self._last: tuple[Array | None, ByLayer] = None, []
        self._parts: dict[int, tuple[Array, ByLayer]] = {}  # by identity

    def __getstate__(self) -> dict[str, object]:
        """Return the state without views: pickled, they would share no memory with their vectors."""
        return {**self.__dict__, "_last": (None, []), "_parts": {}}

    def of(self, vector: Array) -> ByLayer:
        """Return the views of a contiguous vector of parameters and buffers (size,)."""
        if vector is self._last[0]:
            return self._last[1]
        kept = self._parts.get(id(vector))
        if kept is None:
            views = self._layout.views(vector)
            kept = vector, [{own: views[name] for own, name in names.items()} for names in self._names]
            if vector.base is None or not vector.flags.writeable:
                self._last = kept
            else:
                self._parts[id(vector)] = kept
                if len(self._parts) > _MOST:
                    del self._parts[next(iter(self._parts))]  # the oldest
        return kept[1]
