"""Report on a run: gather what is known of it, let its model answer, and write the page and its pictures."""

from collections.abc import Callable, Mapping
from errno import EEXIST, ELOOP
from pathlib import Path, PurePath

import numpy as np

from cnnpar.config.resolve import to_toml
from cnnpar.errors import InputError, RunError, reason
from cnnpar.nn.network import Network
from cnnpar.optim.schedules import learning_rate
from cnnpar.report import measurements
from cnnpar.report.html.contents import Contents, Course, Judged, Maps
from cnnpar.report.html.document import MARK
from cnnpar.report.html.mistakes import mistakes_picture
from cnnpar.report.html.mosaic import as_image
from cnnpar.report.html.page import whole
from cnnpar.report.plots import require_ours
from cnnpar.run.answers import Answers, answer
from cnnpar.run.features import activations, filters
from cnnpar.run.measures import judge, pixel_range
from cnnpar.run.resume import settings_of
from cnnpar.run.samples import held_out_samples
from cnnpar.storage import atomic
from cnnpar.storage.checkpoint import Payload, read
from cnnpar.storage.packing import unpack
from cnnpar.text import dimensions, one_line
from cnnpar.training.state import TrainState

_LONGEST = 40  # characters of the name of a class or a file
_RATES = 400  # points of the learning rate's curve, at most


def write_report(
    path: Path,
    page: Path,
    pictures: Path | None,
    source: str | None,
    warn: Callable[[str], None],
    *,
    overwrite: bool,
) -> tuple[list[Path], Contents]:
    """Write the report on the checkpoint `path` to the file `page`, and its pictures into a folder.

    Returns the files, the page first, and what they show.

    The model answers the images of `source`, or else those that its run held out of the training. Raises InputError for
    what cannot be read, and where a file would replace one that is not cnnpar's, unless `overwrite`.
    """
    if not overwrite:
        _require_ours(page, MARK)
    contents = gather(path, source, warn)
    content, drawn = whole(contents)
    files = {page: content}
    if pictures is not None:
        judged = contents.judged
        drawn += [mistakes_picture(judged.mistakes)] if judged is not None and judged.mistakes else []
        files |= {pictures / f"{picture.name}.png": picture.light for picture in drawn}
    for file in [] if overwrite else list(files)[1:]:
        _require_ours(file)
    for file, bytes_ in files.items():
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic.write(file, bytes_)
        except OSError as error:
            raise RunError(f"{file}: cannot write the report: {reason(error)}") from error
    return list(files), contents


def gather(path: Path, source: str | None, warn: Callable[[str], None]) -> Contents:
    """Return all that a report on a checkpoint shows. Raises InputError for what cannot be read."""
    payload = read(path)
    network, state = unpack(payload, str(path))
    judged, maps, notes = _judged(payload, network, state, source, path, warn)
    with state.evaluation_weights() as weights:
        found = filters(network, weights)
    return Contents(
        title=f"Report on {path.absolute().parent.name}",
        facts=_facts(payload, network, state, path),
        machine=sorted(payload.fingerprint.items()),
        settings=to_toml(settings_of(payload)),
        course=_course(payload, path),
        judged=judged,
        filters=found,
        activations=maps,
        notes=notes,
    )


def _require_ours(file: Path, *mark: bytes) -> None:
    try:
        require_ours(file, None, *mark)
    except FileNotFoundError:
        return  # nor is there a folder
    except OSError as error:
        if error.errno not in (EEXIST, ELOOP):
            raise InputError(f"{file}: cannot be written: {reason(error)}; choose another file") from error
        what = "is a link" if error.errno == ELOOP else "is there already, and cnnpar has not written it"
        raise InputError(f"{file}: {what}; choose another file, or replace it with --overwrite") from error


def _judged(
    payload: Payload, network: Network, state: TrainState, source: str | None, path: Path, warn: Callable[[str], None]
) -> tuple[Judged | None, list[Maps], list[str]]:
    """Return what the model makes of images, the activations of the first of them, and what is to be said of both."""
    notes = list[str]()

    def note(text: str) -> None:
        notes.append(text)
        warn(text)

    try:
        data, what = held_out_samples(payload, source, str(path), note)
    except InputError as error:
        if source is not None:
            raise
        return None, [], [f"no images were answered: {error}"]
    answers = answer(payload, network, state, data, str(path))
    judged = judge(answers, what, payload.config.loss)
    normalised = payload.preprocessing.normalise(data.images[:1])[0]
    with state.evaluation_weights() as weights:
        return judged, [_first_image(answers), *activations(network, weights, normalised)], notes


def _first_image(answers: Answers) -> Maps:
    """Return the first image itself, and what the model says of it."""
    data, first = answers.data, 0
    image = as_image(data.images[first], *pixel_range(data.images)) / 255
    label, answered = (one_line(data.class_names[place[first]], _LONGEST) for place in (data.labels, answers.classes))
    file = data.file(first)
    where = one_line(PurePath(file).name, _LONGEST) if file else f"row {data.row(first):,}"
    said = f"{where}: label {label}, answer {answered} with {answers.probabilities[first].max():.1%}"
    colours = image if image.ndim == 3 else np.repeat(image[..., np.newaxis], 3, axis=2)
    return Maps(said, colours[np.newaxis], 1)


def _facts(payload: Payload, network: Network, state: TrainState, path: Path) -> list[tuple[str, str]]:
    """Return what the run was, as names and texts."""
    train, data, best = payload.config.train, payload.config.data, state.best
    optimizer = payload.config.optimizer
    speed = f"{state.samples / state.seconds:,.0f} samples/s" if state.seconds else "not measured"
    facts = {
        "checkpoint": str(path.absolute()),
        "position": f"epoch {state.epoch} of {train.epochs}, step {state.step:,}, {state.samples:,} samples",
        "time": f"{state.seconds:,.1f} s, {speed}",
        "best epoch": "" if best is None else f"{best.epoch}, validation accuracy {best.validation_accuracy:.2%}",
        "data": data.name or data.train,
        "images": f"{dimensions(network.input_shape)}, {network.classes:,} classes",
        "network": f"{len(network.layers)} layers, {network.layout.trained:,} parameters",
        "optimizer": f"{optimizer.__struct_config__.tag}, learning rate {optimizer.learning_rate:g}, batches of "
        f"{train.batch_size}, seed {train.seed}",
        "weights sha256": state.digest,
        "exact": "yes" if state.exact else "no: workers or machines of unlike fingerprints took part",
        "data fingerprint": payload.data_fingerprint,
        "machine": _machine(payload.fingerprint),
    }
    return [(name, one_line(fact)) for name, fact in facts.items() if fact]


def _machine(fingerprint: Mapping[str, str]) -> str:
    known = {"": "machine", "numpy ": "numpy", "cnnpar ": "cnnpar"}
    return ", ".join(f"{name}{fingerprint[key]}" for name, key in known.items() if key in fingerprint)


def _course(payload: Payload, path: Path) -> Course:
    """Return how the training went. The learning rates are those of the settings."""
    config, position = payload.config, payload.state
    per_epoch = max((position.step - position.index) // max(position.epoch, 1), 1)
    total = max(config.train.epochs * per_epoch, 1)
    base = config.optimizer.learning_rate
    steps = range(0, position.step, max(position.step // _RATES, 1))
    rates = [(step / per_epoch, learning_rate(config.schedule, base, step, per_epoch, total)) for step in steps]
    return Course(payload.history, measurements.beside(path, payload), rates, per_epoch)
