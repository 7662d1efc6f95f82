"""The output of `cnnpar inspect`: position, accuracies and network of a checkpoint, or the network of a configuration.

Text is in at most 80 columns.
"""

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from rich.table import Table
from rich.text import Text

from cnnpar.config.sections import Config
from cnnpar.data.load import load_splits
from cnnpar.errors import InputError
from cnnpar.nn.layers import Layer
from cnnpar.nn.network import Network
from cnnpar.nn.residual import SHORTCUT, Residual
from cnnpar.report.page import page
from cnnpar.storage.checkpoint import Payload
from cnnpar.text import dimensions, listed, one_line
from cnnpar.training.state import EpochRecord, TrainState


def describe(payload: Payload, network: Network, state: TrainState) -> str:
    """Return text on a checkpoint: position, accuracies, digest, and a table of the layers."""
    train, optimizer = payload.config.train, payload.config.optimizer
    classes = payload.preprocessing.class_names
    names = listed([one_line(name, 40) for name in classes], 10)
    facts = {
        "position": f"epoch {state.epoch} of {train.epochs}, step {state.step:,}, {state.samples:,} samples",
        "time": f"{state.seconds:,.1f} s",
        "last epoch": _accuracies(state.history[-1]) if state.history else "none is finished",
        "best epoch": _accuracies(state.best) if state.best else "not measured (no validation data)",
        "skipped": f"{state.skipped:,} steps, whose loss or gradient was not finite",
        "exact": "yes" if state.exact else "no: workers or machines of unlike fingerprints took part",
        "weights sha256": state.digest,
        "began with": state.initial_sha256,
        "frozen": f"{len(network.layout.frozen)} arrays: {one_line(', '.join(sorted(network.layout.frozen)), 120)}",
        "classes": f"{len(classes)}: {names}",
        "optimizer": f"{optimizer.__struct_config__.tag}, batches of {train.batch_size}, seed {train.seed}",
        "kernels": network.kernels,
    }
    if network.kernels == "fast":
        del facts["kernels"]
    if not state.skipped:
        del facts["skipped"]
    if not network.layout.frozen:
        del facts["frozen"]
    if not state.initial_sha256:
        del facts["began with"]
    if not state.history:
        del facts["best epoch"]
    pairs = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    pairs.add_column(no_wrap=True)
    pairs.add_column(overflow="fold")
    for name, fact in facts.items():
        pairs.add_row(*_texts([name, fact]))

    return page(pairs, "", _table(network))


def facts(payload: Payload, network: Network, state: TrainState) -> dict[str, Any]:
    """Return the JSON object of `--json` for a checkpoint."""
    position = payload.state
    return {
        "weights_sha256": state.digest,
        "epoch": state.epoch,
        "step": state.step,
        "parameters": network.layout.trained,
        "exact": state.exact,
        "skipped_steps": state.skipped,
        "seed": position.seed,
        "samples": state.samples,
        "seconds": state.seconds,
        "best": position.best,
        "fingerprint": payload.fingerprint,
        "data_fingerprint": payload.data_fingerprint,
        "initial_sha256": state.initial_sha256 or None,
        "run_id": state.run_id or None,
    }


def outlined(config: Config, shape: str | None, classes: int | None) -> Network:
    """Build the network that a configuration describes.

    `shape`: "H,W,C" of the images, with a number of `classes`; None: the data of the configuration are read for both.
    Raises InputError for a wrong shape, and for layers that do not fit it.
    """
    if (shape is None) != (classes is None):
        raise InputError("--shape and --classes go together; without them the data of the settings are looked at")
    if shape is None:
        train = load_splits(config.data).train
        return Network.from_config(config, train.image_shape, len(train.class_names))
    if not re.fullmatch("[1-9][0-9]{0,4}(,[1-9][0-9]{0,4}){2}", shape):
        raise InputError(f"--shape {shape}: expected H,W,C, for example 32,32,3")
    height, width, channels = map(int, shape.split(","))
    return Network.from_config(config, (height, width, channels), classes or 0)


def outline(network: Network) -> str:
    """Return the table of the layers alone."""
    return page(_table(network))


def outline_facts(network: Network) -> dict[str, Any]:
    """Return the JSON object of `--json` for a configuration; `mflop`: forward, for one image."""
    return {
        "image_shape": network.input_shape,
        "classes": network.classes,
        "parameters": network.layout.trained,
        "mflop": _mflop(sum(network.chain.products)),
        "layers": [{**row._asdict(), "path": ".".join(row.path)} for row in _rows(network.layers, network.input_shape)],
    }


class _Row(NamedTuple):
    """One layer in the table."""

    path: tuple[str, ...]  # names of the layers that contain it, then its own
    type: str
    output: tuple[int, ...]  # shape, without the batch axis
    parameters: int
    mflop: float  # forward, for one image


def _table(network: Network) -> Table:
    """Return the table of the layers, with a last line for their totals."""
    layers = Table(box=None, header_style="", padding=(0, 2, 0, 0))
    layers.add_column("layer", overflow="fold")
    layers.add_column("type")
    for column in ("output", "parameters", "MFLOP"):
        layers.add_column(column, justify="right", no_wrap=True)
    layers.add_row(*_texts(["", "input", dimensions(network.input_shape), "", ""]))
    before: list[str] = []
    for row in _rows(network.layers, network.input_shape):
        *within, name = row.path
        if within and within[-1] == SHORTCUT and within != before:
            layers.add_row(*_texts(["  " * (len(within) - 1) + SHORTCUT, "", "", "", ""]))
        before = within
        cells = [f"{row.parameters:,}" if row.parameters else "", f"{row.mflop:,.2f}" if row.mflop else ""]
        layers.add_row(*_texts(["  " * len(within) + name, row.type, dimensions(row.output), *cells]))
    mflop = _mflop(sum(network.chain.products))
    layers.add_row(*_texts(["all", "", "", f"{network.layout.trained:,}", f"{mflop:,.2f}"]))
    return layers


def _rows(layers: Iterable[Layer], shape: tuple[int, ...], within: tuple[str, ...] = ()) -> Iterator[_Row]:
    """Yield the rows of layers with an input of that shape, each layer followed by those that it contains."""
    for layer in layers:
        before, shape = shape, layer.output_shape(shape)
        count = sum(math.prod(parameter.shape) for parameter in layer.parameters(before).values())
        path = (*within, layer.name)
        yield _Row(path, str(layer.__struct_config__.tag), shape, count, _mflop(layer.products(before)))
        if isinstance(layer, Residual):
            for name, branch in layer.branches().items():
                yield from _rows(branch, before, (*path, name) if name else path)


def _mflop(products: int) -> float:
    """Return millions of floating-point operations: a multiplication and an addition for each product."""
    return 2 * products / 1e6


def _accuracies(record: EpochRecord) -> str:
    shares = [f"train {record.train_accuracy:.2%}"]
    if record.validation_accuracy is not None:
        shares.append(f"validation {record.validation_accuracy:.2%}")
    return f"{', '.join(shares)} (epoch {record.epoch})"


def _texts(cells: Iterable[str]) -> list[Text]:
    """Return cells as texts that rich shows unchanged: brackets in names are not markup."""
    return [Text(cell) for cell in cells]
