"""The lines that a run begins with: what is computed, on what, where, and from which checkpoint it goes on."""

from collections.abc import Iterator, Mapping

from cnnpar.config import Config
from cnnpar.config.choices import Cosine, OneCycle, Piecewise
from cnnpar.data.augment.augmenter import first_plain_epoch
from cnnpar.nn.network import Network
from cnnpar.parallel.work import Kind
from cnnpar.run.prepare import Run
from cnnpar.run.resume import Origin
from cnnpar.storage.rundir import RunFiles
from cnnpar.version import __version__

_NAMES = {Kind.TRAIN: "training", Kind.VALIDATION: "validation", Kind.TEST: "test"}


def headline(run: Run, files: RunFiles) -> list[str]:
    """Return the lines that a run begins with."""
    lines = [*facts(run.config, run.network, run.work.samples, run.understood), f"run directory {files.directory}"]
    if run.origin is not None:
        lines += _resumed(run.config, files, run.origin)
    return [*lines, *run.doubts, *run.notes]


def facts(config: Config, network: Network, samples: Mapping[Kind, int], understood: str) -> list[str]:
    """Return what is computed, and where, in three lines.

    `samples`: how many there are of each kind; `understood`: what they were taken for.
    """
    engine = config.engine
    where = "in this process"
    if engine.most:
        count = str(engine.most) if engine.fewest == engine.most else f"{engine.fewest} to {engine.most}"
        where = f"{count} worker{'s' * (engine.most > 1)}, {engine.transport} transport"
    if network.kernels != "fast":
        where += f", kernels {network.kernels}"
    counts = ", ".join(f"{count:,} {_NAMES[kind]}" for kind, count in samples.items())
    return [
        f"cnnpar {__version__}: {config.data.name or config.data.train}, {counts} images",
        understood,
        f"{network.layout.trained:,} parameters{_frozen(network)}, batches of {config.train.batch_size}, {where}",
    ]


def _resumed(config: Config, files: RunFiles, origin: Origin) -> Iterator[str]:
    """Say where the run goes on from, and what is other than it was."""
    path, position, before = origin.path, origin.position, origin.config.train.epochs
    if origin.instead:
        yield f"{origin.instead}; going on from the one before"
    yield f"resumed from {path} after {position.epoch} epochs, step {position.step:,}"
    beside = path.resolve().parent == files.directory.resolve()
    if beside and path.resolve() not in files.checkpoints:
        yield f"its newest checkpoint will be {files.model}; --to-path puts it elsewhere"
    epochs = config.train.epochs
    if position.epoch >= epochs:
        all_done = position.epoch == epochs
        done = f"all {epochs} epochs are done" if all_done else f"{position.epoch} epochs are done, more than {epochs}"
        yield f"{done}, and the run stays as it is; more --epochs go on with it"
        return
    if moved := [*_moved(config, before)]:
        yield (
            f"train.epochs was {before} and is now {epochs}, which moves {' and '.join(moved)}: other weights than "
            f"with {epochs} from the start"
        )


def _moved(config: Config, epochs: int) -> Iterator[str]:
    """Name what comes at another time than in a run of so many epochs."""
    augment, now = config.augment, config.train.epochs
    if epochs != now and isinstance(config.schedule, Cosine | OneCycle | Piecewise):
        yield "the schedule"
    if augment.plain_epochs and first_plain_epoch(augment, epochs) != first_plain_epoch(augment, now):
        yield "augment.plain_epochs"


def _frozen(network: Network) -> str:
    """Say how many of the parameters are frozen, if any."""
    layout = network.layout
    count = layout.trained - sum(part.stop - part.start for part, _ in layout.trainable_segments)
    return f", {count:,} of them frozen" if count else ""
