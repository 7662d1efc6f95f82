"""The output of `cnnpar kernels`: a table of the time and the difference of each kernel, layer by layer."""

from collections.abc import Iterable

import msgspec
from rich.table import Table
from rich.text import Text

from cnnpar.config.sections import Kernels
from cnnpar.report.page import page
from cnnpar.text import listed

ByKernels = dict[Kernels, float]


class LayerKernels(msgspec.Struct, frozen=True):
    """What was measured of a layer."""

    layer: str  # its name, after those of the blocks around it
    type: str
    way: str  # of convolving that the engine takes (cnnpar/nn/conv); empty for other layers
    milliseconds: ByKernels  # forward and backward
    differences: ByKernels  # the largest of output and gradients, each relative to its largest number


class Comparison(msgspec.Struct, frozen=True):
    """What was measured of a network: the JSON object of `--json`."""

    samples: int  # of the microbatch that all was measured with
    repeats: int
    layers: list[LayerKernels]  # those that have several kernels
    same: list[str]  # names of those that have not
    whole_milliseconds: ByKernels  # loss and gradient of all layers, with the engine's fused where it fuses them


def as_text(found: Comparison) -> str:
    """Return the table in 80 columns, with a line for the whole network, and what the columns are."""
    table = Table(box=None, header_style="", padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column("layer", overflow="fold")
    table.add_column("way", no_wrap=True)
    kernels = list(found.whole_milliseconds)
    for heading in [*(f"{name} ms" for name in kernels), *kernels]:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in found.layers:
        differences = [f"{row.differences[name]:.0e}" if row.differences[name] else "0" for name in kernels]
        table.add_row(*_texts([row.layer, row.way, *_times(row.milliseconds, kernels), *differences]))
    table.add_row(*_texts(["whole", "", *_times(found.whole_milliseconds, kernels), *[""] * len(kernels)]))
    explained = (
        f"ms: forward and backward of a microbatch of {found.samples}, one thread, median of {found.repeats}; "
        "then the largest difference of output and gradients from numpy in float64. way: that of the engine's "
        "convolution. whole: loss and gradient of all layers, of which the engine fuses some."
    )
    same = f"The same for all: {listed(found.same, 6)}." if found.same else ""
    return page(table, "", explained, *filter(None, [same]))


def _times(milliseconds: ByKernels, kernels: Iterable[Kernels]) -> list[str]:
    return [
        f"{milliseconds[name]:,.2f}" if milliseconds[name] < 100 else f"{milliseconds[name]:,.0f}" for name in kernels
    ]


def _texts(cells: Iterable[str]) -> list[Text]:
    """Return cells as texts that rich shows unchanged: brackets in names are not markup."""
    return [Text(cell) for cell in cells]
