"""The result of a cross-validation, for programs and for people: each fold, their mean, and an interval for it."""

import math
import statistics

import msgspec

from cnnpar.report.display import Part, fit
from cnnpar.report.intervals import CONFIDENCE


class Fold(msgspec.Struct, frozen=True):
    """Result of the run of one fold: accuracies in 0..1, on the part that was held out."""

    fold: str  # "2/5": the second of five
    epochs: int
    validation_accuracy: float | None  # after the last epoch; None where none was finished
    best_validation_accuracy: float | None
    best_epoch: int | None
    weights_sha256: str
    exact: bool
    run_dir: str


class CrossValidation(msgspec.Struct, frozen=True):
    """Result of a cross-validation; mean, deviation and interval are those of the folds' last epochs."""

    folds: list[Fold]  # that were finished, and the one that was stopped
    validation_accuracy: float | None  # the mean; None, as what follows, unless all folds are finished
    standard_deviation: float | None
    interval: tuple[float, float] | None
    confidence: float  # of the interval
    exact: bool
    run_dir: str
    stopped_by: str | None = None

    @classmethod
    def of(cls, folds: list[Fold], run_dir: str, stopped_by: str | None) -> "CrossValidation":
        """Summarise the folds: all of them, or those up to the one that the signal `stopped_by` stopped."""
        mean, deviation, interval = None, None, None
        found = [fold.validation_accuracy for fold in folds if fold.validation_accuracy is not None]
        if stopped_by is None and len(found) == len(folds):
            mean, deviation, interval = statistics.fmean(found), statistics.stdev(found), interval_of_mean(found)
        exact = all(fold.exact for fold in folds)
        return cls(folds, mean, deviation, interval, CONFIDENCE, exact, run_dir, stopped_by)


def interval_of_mean(accuracies: list[float]) -> tuple[float, float]:
    """Return the interval that holds the expected accuracy with the probability CONFIDENCE, within 0..1.

    It is Student's t interval of the mean over k folds, whose variance is taken as (1/k + 1/(k-1)) s^2 instead of
    s^2/k: the folds are not independent, as any two of them share training samples. Source: Nadeau and Bengio,
    "Inference for the generalization error", Machine Learning 52, 2003 (the corrected resampled t).
    """
    from scipy.special import stdtrit  # scipy.stats would take a second to load

    count = len(accuracies)
    quantile = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2))
    mean = statistics.fmean(accuracies)
    reach = quantile * statistics.stdev(accuracies) * math.sqrt(1 / count + 1 / (count - 1))
    return max(0.0, mean - reach), min(1.0, mean + reach)


def as_text(found: CrossValidation, width: int) -> str:
    """Return a line for each fold, and two for all of them; what matters least is left out of what `width` cuts."""
    lines = [_line(fold, width) for fold in found.folds]
    if found.validation_accuracy is not None and found.interval is not None:
        low, high = found.interval
        lines.append(
            f"validation accuracy {found.validation_accuracy:.2%}, the mean of {len(found.folds)} folds "
            f"(standard deviation {found.standard_deviation:.2%})"
        )
        method = "by Student's t, corrected for folds that share training samples (Nadeau and Bengio 2003)"
        lines.append(fit([(0, f"{found.confidence:.0%} interval {low:.2%} to {high:.2%}"), (1, method)], width, ", "))
    return "\n".join(lines)


def _line(fold: Fold, width: int) -> str:
    accuracy, best = "no epoch is finished", list[Part]()
    if fold.validation_accuracy is not None and fold.best_validation_accuracy is not None:
        accuracy = f"validation accuracy {fold.validation_accuracy:.2%}"
        best = [(1, f"best {fold.best_validation_accuracy:.2%} in epoch {fold.best_epoch}")]
    exact = "" if fold.exact else " (not exact)"
    parts = [(0, f"fold {fold.fold}: {accuracy}"), *best, (2, f"weights sha256 {fold.weights_sha256}")]
    return fit(parts, width - len(exact), ", ") + exact
