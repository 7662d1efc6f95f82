"""Resume a run: find its checkpoint, and check that going on gives the bits of a run that was never stopped."""

import itertools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from cnnpar.config.data import Data
from cnnpar.config.sections import Config, Engine
from cnnpar.data.dataset import Splits
from cnnpar.errors import InputError
from cnnpar.fingerprint import Fingerprint, differences
from cnnpar.machine import usable_cores
from cnnpar.nn.network import Network
from cnnpar.parallel.on_ray.environment import meant_address
from cnnpar.run.transfer import same_weights
from cnnpar.storage.checkpoint import Payload, is_whole, read
from cnnpar.storage.find import find_checkpoint
from cnnpar.storage.lock import BEST, MODEL, PREVIOUS
from cnnpar.storage.position import Position
from cnnpar.storage.rundir import Place, RunFiles, exists

# What may differ between a checkpoint and the run that goes on from it: samples and network are compared by content,
# and epochs and patience only say when it ends.
_FREE_SECTIONS = ("model", "engine", "checkpoint", "report")
_FREE = {"data": set(Data.__struct_fields__) - {"balance"}, "train": {"epochs", "patience"}}


@dataclass(frozen=True)
class Resume:
    """A checkpoint to go on from."""

    path: Path
    payload: Payload
    instead: str = ""  # the fault of the newest checkpoint, where this is the one before

    @property
    def origin(self) -> "Origin":
        """The part of it that the run still needs once the arrays have been taken over."""
        saved = self.payload
        return Origin(self.path, saved.state, saved.config, saved.fingerprint, self.instead)


class Origin(NamedTuple):
    """Checkpoint that a run has gone on from, without its arrays, which need not stay in memory."""

    path: Path
    position: Position
    config: Config
    fingerprint: Mapping[str, str]
    instead: str  # see Resume

    def begins_at(self, place: Place) -> bool:
        """Tell whether a run of its own begins: of an imported checkpoint, which lies in no run's directory.

        Such a checkpoint has no step behind it, and another name than those of a run.
        """
        own = place.to_path is not None and place.to_path.resolve() == self.path.resolve()
        asked = own or place.run_dir is not None
        return not asked and self.position.step == 0 and self.path.name not in (MODEL, PREVIOUS, BEST)


def settings_of(payload: Payload) -> Config:
    """Return the settings of a checkpoint. The address of the cluster is never taken from it."""
    config = payload.config
    return replace(config, engine=replace(config.engine, address=""))


def check_data_there(data: Data, keys: Sequence[str], option: str) -> None:
    """Raise InputError where files of a checkpoint's data are gone; `keys`: "train", "test"; `option`: what helps.

    So are pipes, which nobody may fill any more, or somebody for another reader, but for this process's own.
    """
    for key in keys:
        path = getattr(data, key)
        pipe = path and not path.startswith("/dev/fd/") and Path(path).is_fifo()
        if path and (pipe or not exists(Path(path))):
            what = "is a pipe" if pipe else "is no longer there"
            kind = "training" if key == "train" else "test"
            raise InputError(f"{path}: {what}, and held the run's {kind} data; {option} says where they are now")


def beyond_this_machine(engine: Engine) -> bool:
    """Tell whether a Ray of this machine's own would have more workers than cores, and than there are by default."""
    return not meant_address(engine) and engine.most > max(usable_cores(), Engine().most)


def check_workers(engine: Engine, source: Path) -> None:
    """Raise InputError where the checkpoint `source`, which may be anybody's, asks for more workers than cores."""
    if beyond_this_machine(engine):
        raise InputError(
            f"{source}: its run had {engine.workers} workers, and this machine has {usable_cores()} cores; say how "
            f"many there shall be, with --workers N"
        )


def find(resume: str, run_dir: Path | None, to_path: Path | None) -> Resume | None:
    """Find the checkpoint that `--resume [FILE|DIR|auto]` means; None: `auto`, and there is none yet.

    Raises InputError when there is none otherwise, or none that can be read.
    """
    if resume == "auto":
        return _find_newest(RunFiles.at(run_dir or Path(), to_path))
    path = find_checkpoint(resume, run_dir, to_path)
    try:
        return Resume(path, read(path))
    except InputError as error:
        previous = RunFiles.at(path.parent, path).previous
        if not is_whole(previous):
            raise
        raise InputError(f"{error}; the one before is whole: --resume {shlex.quote(str(previous))}") from error


def _find_newest(files: RunFiles) -> Resume | None:
    """Find the newest checkpoint that is whole. Raises InputError if there are checkpoints, and none of them is."""
    faults: list[str] = []
    newest = [path for path in (files.model, files.previous) if exists(path)]
    for path in newest or [path for path in (files.best,) if exists(path)]:
        try:
            return Resume(path, read(path), "; ".join(faults))
        except InputError as error:
            if isinstance(error.__cause__, OSError | MemoryError):  # it may be whole, and going back would lose work
                raise InputError(f"--resume auto: {error}") from error
            faults.append(str(error))
    if faults:
        raise InputError(f"--resume auto: {'; '.join(faults)}; move them away to start anew")
    return None


def check_newest(resume: Resume, files: RunFiles) -> None:
    """Raise InputError where a run would go back to an older checkpoint, over a newer one of its own."""
    if files.model.resolve() == resume.path.resolve():
        return
    try:
        newest = read(files.model).state
    except InputError:
        return  # there is none, or none that is whole
    asked = resume.payload.state
    if newest.step > asked.step:
        raise InputError(
            f"{files.model}: the run has come to step {newest.step:,}, {resume.path.name} only to step {asked.step:,}; "
            f"--resume {shlex.quote(str(files.model))} goes on; give another --run-dir to go back"
        )


def check_resumable(
    resume: Resume, network: Network, config: Config, splits: Splits, own: Fingerprint, ended: bool
) -> None:
    """Raise InputError, saying what differs, unless going on gives what never stopping would have given.

    `network`: that of the checkpoint; `own`: the fingerprint of this process; `ended`: no step is left to compute, so
    that any process may go on.
    """
    saved, path = resume.payload, resume.path
    _check_settings(path, saved.config, config)
    if not saved.data_fingerprint:
        raise InputError(
            f"{path}: cannot resume: it was imported without the data of its weights; "
            f"--set model.init_from={shlex.quote(str(path))} begins a run with them"
        )
    if splits.fingerprint != saved.data_fingerprint:
        raise InputError(
            f"{path}: cannot resume: the training or validation data are not those the run began with; "
            f"give the same files and data.validation, or start a new run"
        )
    if saved.config.model.kernels != config.model.kernels:
        raise _refusal(path, "model.kernels", saved.config.model.kernels, config.model.kernels)
    before, now = saved.config.model.init_from, config.model.init_from
    if before != now and not (before and now and same_weights(now, saved.state.initial_sha256)):
        raise _refusal(path, "model.init_from", before or "not set", now or "not set")
    _check_network(path, saved.config, network, config)
    difference = differences(saved.fingerprint, own)
    if difference and not ended and not config.engine.allow_inexact:
        portable = saved.config.engine.portable
        as_before = f"--set engine.portable={str(portable).lower()} is what the run began with; "
        raise InputError(
            f"{path}: cannot resume: {_culprits(saved.fingerprint, own)} would compute other bits ({difference}); "
            f"{as_before if config.engine.portable != portable else ''}"
            f"--set engine.allow_inexact=true goes on all the same, and the run then says exact: false"
        )


def _culprits(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Name what makes two fingerprints differ: the code, the user's layers, or the machine with its libraries."""
    keys = [key for key in {*before, *now} if key != "loops" and before.get(key) != now.get(key)]
    kinds = {
        "this version of cnnpar": any(key in ("cnnpar", "code") for key in keys),
        "a layer of yours, which has changed,": any(key.startswith("layer ") for key in keys),
        "this machine": any(key not in ("cnnpar", "code") and not key.startswith("layer ") for key in keys),
    }
    return " and ".join(name for name, there in kinds.items() if there)


def _check_settings(path: Path, saved: Config, config: Config) -> None:
    """Raise InputError that names the first setting that may not differ and does."""
    for section in Config.__struct_fields__:
        before, now = getattr(saved, section), getattr(config, section)
        if section in _FREE_SECTIONS or before == now:
            continue
        if type(before) is not type(now):
            raise _refusal(path, f"{section}.type", before.__struct_config__.tag, now.__struct_config__.tag)
        for field in before.__struct_fields__:
            old, new = getattr(before, field), getattr(now, field)
            if old != new and field not in _FREE.get(section, ()):
                raise _refusal(path, *_narrowed(f"{section}.{field}", old, new))


def _check_network(path: Path, saved: Config, network: Network, config: Config) -> None:
    """Raise InputError that names the first layer that differs from the checkpoint's, or the other `freeze`."""
    if (saved.model.layers, saved.model.freeze) == (config.model.layers, config.model.freeze):
        return  # as nearly always; nothing is built a second time
    shape = network.input_shape, network.classes
    wanted = Network.from_tables(config.model.layers, *shape, freeze=config.model.freeze)
    tables = network.tables(), wanted.tables()  # with defaults and names
    for number, (was, layer) in enumerate(itertools.zip_longest(*tables), 1):
        if was != layer:
            raise _refusal(path, f"layer {number}", was or "none", layer or "none")
    if network.layout.frozen != wanted.layout.frozen:
        raise _refusal(path, "model.freeze", list(saved.model.freeze), list(config.model.freeze))


def _refusal(path: Path, what: str, old: object, new: object) -> InputError:
    return InputError(
        f"{path}: cannot resume: {what} was {_short(old)} and is now {_short(new)}; "
        f"leave it as it was, or start a new run"
    )


def _narrowed(what: str, old: object, new: object) -> tuple[str, object, object]:
    """Narrow two lists that differ down to the first item that does, with its place: `schedule.points[2][1]`."""
    if not (isinstance(old, tuple) and isinstance(new, tuple)):
        return what, old, new
    pairs = enumerate(itertools.zip_longest(old, new, fillvalue="missing"))
    place, (was, item) = next((place, pair) for place, pair in pairs if pair[0] != pair[1])
    return _narrowed(f"{what}[{place}]", was, item)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
