"""The output of `cnnpar lr-find`: a table in 80 columns, the suggested learning rate, and a picture."""

from pathlib import Path
from typing import Any

from cnnpar.report.plots import TRAINING, VALIDATION, dress, new_figure, write
from cnnpar.training.lr_curve import Curve

_ROWS = 12  # of the table, roughly


def as_text(curve: Curve) -> str:
    """Return a table of learning rates and smoothed losses, and the suggestion, as text."""
    marks = {curve.best: "lowest"}
    if curve.steepest is not None:
        marks[curve.steepest] = "steepest descent"
    last = len(curve.rates) - 1
    rows = {*range(0, last, max(curve.steps // _ROWS, 1)), last, *marks}
    lines = ["learning rate      loss"]
    lines += [
        f"{curve.rates[step]:13.2e}{_loss(curve.smoothed[step]):>10}  {marks.get(step, '')}".rstrip()
        for step in sorted(rows)
    ]
    if last + 1 < curve.steps:
        lines.append(f"stopped after {last + 1} of {curve.steps} steps, as the loss rose")
    elif curve.fell and curve.best > last - curve.window:
        lines.append("the loss still fell at the end; a higher --to shows where it rises")
    if curve.suggestion is None or curve.steepest is None:
        lines.append("no suggestion: the loss did not clearly fall; try other rates, or more --steps")
        return "\n".join(lines)
    lines.append(f"steepest descent at {curve.rates[curve.steepest]:.2g}; it depends on the number of steps")
    lines.append(f"suggested: optimizer.learning_rate = {curve.suggestion:.2g}, a tenth of that of the lowest loss")
    return "\n".join(lines)


def facts(curve: Curve, exact: bool, picture: Path | None) -> dict[str, Any]:
    """Return the JSON object of `--json`; `exact`: all workers compute the same bits; `picture`: None for none."""
    return {
        "suggestion": curve.suggestion,
        "lowest": curve.rates[curve.best],
        "steepest": None if curve.steepest is None else curve.rates[curve.steepest],
        "steps": len(curve.rates),
        "exact": exact,
        "picture": None if picture is None else str(picture),
        "learning_rates": curve.rates,
        "losses": curve.losses,
        "smoothed": curve.smoothed,
    }


def draw_curve(curve: Curve, path: Path, title: str) -> None:
    """Draw losses over learning rates into a PNG file, which is replaced as a whole.

    The frame leaves out losses far above those before the lowest. Raises OSError if the file cannot be written.
    """
    figure, axes = new_figure(title)
    axes.plot(
        curve.rates, curve.losses, linestyle="none", marker="o", markersize=3, color=TRAINING, label="loss of a batch"
    )
    axes.plot(curve.rates, curve.smoothed, color=VALIDATION, linewidth=1.8, label="smoothed")
    for step, name, marker in ((curve.steepest, "steepest", "v"), (curve.best, "lowest", "o")):
        if step is not None:
            axes.plot(
                [curve.rates[step]],
                [curve.smoothed[step]],
                linestyle="none",
                marker=marker,
                markersize=9,
                markerfacecolor="none",
                markeredgecolor="black",
                markeredgewidth=1.4,
                label=f"{name} {curve.rates[step]:.2g}",
            )
    if curve.suggestion is not None:
        axes.axvline(
            curve.suggestion,
            color="black",
            linewidth=1.2,
            linestyle=(0, (5, 3)),
            zorder=1,
            label=f"suggested {curve.suggestion:.2g}",
        )
    axes.set_xscale("log")
    axes.set_ylim(*_frame(curve))
    dress(axes, "learning rate", "loss")
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=5,
        frameon=False,
        borderaxespad=0.2,
        columnspacing=1.4,
        handlelength=1.6,
        handletextpad=0.5,
    )
    write(figure, path)


def _frame(curve: Curve) -> tuple[float, float]:
    """Return the limits of the loss axis: around the smoothed losses up to the lowest one.

    If the loss did not fall: around all of them, without the last one if it diverged.
    """
    end = curve.best + 1 if curve.fell else max(len(curve.rates) - curve.diverged, 1)
    low, high = min(curve.smoothed[:end]), max(curve.smoothed[:end])
    room = max(high - low, 0.1 * high, 1e-6)
    return max(low - 0.25 * room, -0.03 * room), high + 0.35 * room


def _loss(loss: float) -> str:
    return f"{loss:.4f}" if abs(loss) < 1000 else f"{loss:.3g}"
