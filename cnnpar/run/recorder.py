"""Record a run as it trains: progress, metrics, picture, and checkpoints when they are due."""

import gc
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cnnpar.config.sections import Config
from cnnpar.errors import CnnparError, InputError, RunError, reason_of_any
from cnnpar.nn.sums import Sums
from cnnpar.report.metrics import MetricsLog
from cnnpar.report.plots import draw_accuracy
from cnnpar.report.progress import Progress
from cnnpar.run.first_epoch import FirstEpoch
from cnnpar.run.resume import Origin
from cnnpar.storage.atomic import write
from cnnpar.storage.checkpoint import Payload, encode
from cnnpar.storage.rundir import RunFiles
from cnnpar.storage.saver import Saver
from cnnpar.training.state import EpochRecord, TrainState

_DRAWING_SHARE = 0.05  # of a run's time may go into its picture
_PAUSE = 10.0  # seconds between lines about skipped steps


def begin_saving(
    files: RunFiles,
    state: TrainState,
    pack: Callable[[TrainState], Payload],
    origin: Origin | None,
    warn: Callable[[str], None],
    folder_of: Callable[[Path], int | None] = lambda _: None,
) -> Saver:
    """Return the saver of a run whose newest checkpoint is on disk.

    A new run is saved before its first step, as is one that goes on from another file than that of its newest: what
    cannot be encoded or written is known at once. Raises InputError then, and where a file of another run would be
    overwritten. The arguments are those of the Recorder.
    """
    ids = {state.run_id, origin.position.run_id if origin else state.run_id}
    saver = Saver(warn, folder_of, origin.path if origin else None, ids)
    file = files.model
    try:
        for file in (files.previous, files.best, files.model):
            saver.claim(file)
        if origin is None or origin.path.resolve() != files.model.resolve():
            saver.write_now(file, pack(state))
    except Exception as error:
        saver.close()
        if isinstance(error, CnnparError):
            raise
        raise InputError(
            f"{file}: cannot write checkpoints there: {reason_of_any(error)}; nothing was trained"
        ) from error
    return saver


class Recorder:
    """Observer of a training run. A file that cannot be written costs a warning, not the training."""

    def __init__(
        self,
        config: Config,
        files: RunFiles,
        progress: Progress,
        pack: Callable[[TrainState], Payload],
        saver: Saver,
        origin: Origin | None,
        stopped: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        folder_of: Callable[[Path], int | None] = lambda _: None,
        place_of: Callable[[Path], Path] = lambda path: path,
        first: FirstEpoch | None = None,
    ) -> None:
        """Begin to record.

        `pack`: copies a state into a payload for the `saver`, which is closed with the recorder. `origin`: checkpoint
        that the run goes on from. `folder_of`: see `MetricsLog`. `place_of`: gives where a file in one of these folders
        is now, as they may have been moved. `first`: watches the first epoch of a run that begins.
        Once `stopped()`, no picture is drawn, since it would delay the end of the process by seconds.
        """
        self._config = config
        self._files = files
        self._progress = progress
        self._pack = pack
        self._stopped = stopped
        self._clock = clock
        self._folder_of = folder_of
        self._place_of = place_of
        self._first = first
        self._saver = saver
        step, epochs = (origin.position.step, origin.position.epoch) if origin else (None, 0)
        self._metrics = MetricsLog(files.metrics, step, progress.note, epochs, folder_of)
        self._saved_at = clock()
        self._drawn_at = -float("inf")
        self._drawn = 0  # epochs in the picture
        self._drawing = 0.0  # seconds that the last picture took
        self._undrawn = ""  # why there is no picture
        self._told_at = -float("inf")
        self._untold = 0  # skipped steps since then
        self._began = clock()
        self._samples = 0  # since `_began`

    def step_done(self, state: TrainState, sums: Sums, rate: float) -> None:
        """Show progress; write a metrics line every `report.every_steps`, and a checkpoint when it is due."""
        self._samples += sums.count
        if self._first is not None:
            self._first.step_done(sums, rate)
        now = self._clock()
        speed = self._samples / max(now - self._began, 1e-9)
        epoch = state.sums
        self._progress.step(state.epoch + 1, state.step, epoch.loss / epoch.count, epoch.correct / epoch.count, speed)
        if state.step % self._config.report.every_steps == 0:
            self._metrics.write(
                {
                    "step": state.step,
                    "epoch": state.epoch + 1,
                    "loss": sums.loss / sums.count,
                    "accuracy": sums.correct / sums.count,
                    "learning_rate": rate,
                    "samples_per_second": round(speed, 1),
                    "seconds": round(state.seconds, 3),
                    "weights_sha256": state.digest,
                }
            )
        self._save_if_due(state)

    def step_skipped(self, state: TrainState, count: int, reason: str, rate: float) -> None:
        """Write a metrics line; tell of it at most every ten seconds; write a checkpoint when it is due."""
        self._samples += count
        self._metrics.write(
            {
                "step": state.step,
                "epoch": state.epoch + 1,
                "skipped": reason,
                "skipped_steps": state.skipped,
                "learning_rate": rate,
                "seconds": round(state.seconds, 3),
            }
        )
        self._untold += 1
        now = self._clock()
        if now - self._told_at >= _PAUSE:
            more = f" ({self._untold:,} skipped since the line before)" if self._untold > 1 else ""
            self._progress.note(f"step {state.step:,} is skipped: {reason}{more}")
            self._told_at, self._untold = now, 0
        self._save_if_due(state)

    def epoch_done(self, state: TrainState, record: EpochRecord) -> None:
        """Show and write a line for the epoch, save a checkpoint, and draw the picture."""
        speed = self._samples / max(self._clock() - self._began, 1e-9)
        self._progress.epoch(
            record.epoch,
            record.train_loss,
            record.train_accuracy,
            record.validation_accuracy,
            record.seconds,
            speed,
        )
        if self._first is not None:
            warning = self._first.warning(state.parameters)
            if warning:
                self._progress.note(warning)
            self._first = None
        self._metrics.write(
            {
                "epoch": record.epoch,
                "step": state.step,
                "train_loss": record.train_loss,
                "train_accuracy": record.train_accuracy,
                "validation_loss": record.validation_loss,
                "validation_accuracy": record.validation_accuracy,
                "samples_per_second": round(speed, 1),
                "seconds": round(state.seconds, 3),
                "weights_sha256": state.digest,
            }
        )
        if record is state.best:  # before the newest, which must not tell of a best one that is not on disk
            self._saver.save(self._files.best, self._pack(state))
        self.save(state)
        if self._clock() - self._drawn_at > self._drawing / _DRAWING_SHARE:
            self._draw(state)
        self._began, self._samples = self._clock(), 0

    def save(self, state: TrainState) -> None:
        """Hand a copy of the state to the saver as the newest checkpoint."""
        self._saver.save(self._files.model, self._pack(state), self._files.previous)
        self._saved_at = self._clock()

    def _save_if_due(self, state: TrainState) -> None:
        if self._clock() - self._saved_at >= self._config.checkpoint.every_seconds:
            self.save(state)

    def close(self, state: TrainState) -> None:
        """Finish all files. Raises RunError if a checkpoint could not be written."""
        try:
            unsaved = self._saver.close()
        finally:
            if len(state.history) > self._drawn:
                self._draw(state)
            self._progress.close()
        model, best = self._files.model, self._files.best
        if model in unsaved:
            payload, why = unsaved[model]
            where = self._rescue(payload)
            raise RunError(f"{model}: cannot write the newest checkpoint: {why}; {where}")
        if best in unsaved:
            raise RunError(
                f"{best}: cannot write the checkpoint of the best epoch: {unsaved[best][1]}; the newest one is whole"
            )

    def _rescue(self, payload: Payload) -> str:
        """Write the newest state to a file of another name, and say where it is, and what is in its own place."""
        before = "what was saved before is as it was" if self._saver.is_as_written(self._files.model) else ""
        position = payload.state
        name = f"{self._files.model.stem}-{position.run_id[:8]}-step-{position.step}.json"
        beside, elsewhere = self._files.model.with_name(name), Path(tempfile.gettempdir(), name)
        with suppress(Exception):  # of whatever kind, the encoding's too: the first error is told
            write(beside, encode(payload), folder=self._folder_of(beside))
            return f"it is {self._place_of(beside)} now"
        with suppress(Exception):
            write(elsewhere, encode(payload))
            return f"it is {elsewhere} now"
        return before or "nor anywhere else, and nothing that was saved before is left"

    def _draw(self, state: TrainState) -> None:
        if self._stopped():
            return
        began = self._clock()
        try:
            best = state.best.epoch if state.best else None
            picture = self._files.picture
            if self._drawn:  # the figure before has reference cycles, and would keep its 2 MB of pixels for long
                gc.collect()
            draw_accuracy(state.history, picture, _title(self._files.directory), best, self._folder_of(picture))
            self._drawn = len(state.history)
        except Exception as error:  # a broken font or style of matplotlib must not end a training
            why = reason_of_any(error)
            if why != self._undrawn:
                self._progress.note(f"{self._files.picture}: cannot draw the picture: {why}")
            self._undrawn = why
        self._drawn_at = self._clock()
        self._drawing = self._drawn_at - began


def _title(directory: Path) -> str:
    return f"Accuracy of {directory.resolve().name}"
