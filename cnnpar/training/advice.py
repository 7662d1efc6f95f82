"""The setting that is most likely to blame for a run that diverges, or that does not learn."""

from collections.abc import Iterator
from typing import Any

from cnnpar.config.sections import Config
from cnnpar.training.state import TrainState

# Bounds far outside of what networks are trained with. A setting beyond them is named only where a run goes wrong.
_SMALL, _LARGE, _NEARLY_ONE = 1e-7, 1e4, 0.999
_LOW_WEIGHT = 1e-3  # of classes in the loss
_TAKES_TOO_MUCH = 0.05  # part of the weights that weight decay takes away in each step
_LEAST_RATE = 1e-3  # in that product: some rules scale steps by the size of the weights
_FORGETS_NOTHING = 0.99999  # a decay of running means that takes 100,000 steps to follow


def against_divergence(config: Config, state: TrainState) -> str:
    """Say what to change after a loss, gradient or weight that is not finite."""
    weights = getattr(config.loss, "class_weights", ())
    if max(weights, default=1.0) >= _LARGE:
        return f"start a new run with smaller loss.class_weights (now up to {max(weights):.4g})"
    decay, rate = config.optimizer.weight_decay, config.optimizer.learning_rate
    if decay > rate and decay * rate >= 1:  # a step takes more than the whole weights away
        return f"start a new run with a lower optimizer.weight_decay (now {decay:.4g})"
    for place, settings in {"optimizer": config.optimizer, "loss": config.loss}.items():
        for key in ("trust_coefficient", "margin"):
            if (value := getattr(settings, key, 0.0)) >= _LARGE:
                return f"start a new run with a lower {place}.{key} (now {value:.4g})"
    for key in ("alpha", "beta1", "beta2"):
        if (value := getattr(config.optimizer, key, 0.0)) > _FORGETS_NOTHING:
            return f"start a new run with a lower optimizer.{key} (now {value!r})"
    if state.step == state.skipped:
        source = f", those of {config.model.init_from}" if config.model.init_from else ""
        return f"no weight has changed yet, so the reason is in the data, the layers or the first weights{source}"
    return f"start a new run with a lower optimizer.learning_rate (now {rate:.4g})"


def against_standing_still(config: Config, highest_rate: float, highest_loss: float) -> str:
    """Name the setting that most likely keeps weights from changing; empty where none is far from what is usual.

    `highest_rate` and `highest_loss`: of the steps so far; the schedule may keep the rate below
    `optimizer.learning_rate`.
    """
    return next(_stopping(config, highest_rate, highest_loss), "")


def _stopping(config: Config, highest_rate: float, highest_loss: float) -> Iterator[str]:
    train, optimizer, loss = config.train, config.optimizer, config.loss
    weights = getattr(loss, "class_weights", ())
    if optimizer.learning_rate < _SMALL:
        yield f"optimizer.learning_rate = {optimizer.learning_rate:g} is too low"
    elif highest_rate < _SMALL:
        yield f"the schedule's learning rate, {highest_rate:g} at most so far, is too low"
    for key in ("clip_value", "clip_norm"):
        if 0 < getattr(train, key) < _SMALL:
            yield f"train.{key} = {getattr(train, key):g} is too low"
    if optimizer.weight_decay * max(optimizer.learning_rate, _LEAST_RATE) >= _TAKES_TOO_MUCH:
        yield f"optimizer.weight_decay = {optimizer.weight_decay:g} is too high"
    if weights and max(weights) < _LOW_WEIGHT:
        yield f"loss.class_weights, {max(weights):g} at most, are too low"
    if 0 in weights and highest_loss == 0:
        yield "loss.class_weights are 0 for all classes that occur"
    if getattr(loss, "label_smoothing", 0) > _NEARLY_ONE:
        yield "loss.label_smoothing is too close to 1"
    if getattr(optimizer, "epsilon", 0) > 1:
        yield f"optimizer.epsilon = {getattr(optimizer, 'epsilon', 0):g} is too high"
    if getattr(optimizer, "trust_coefficient", 1) < _SMALL:
        yield f"optimizer.trust_coefficient = {getattr(optimizer, 'trust_coefficient', 1):g} is too low"
    if _highest_rate_of_dropout(config.model.layers) > _NEARLY_ONE:
        yield "a dropout's `rate` is too close to 1"


def _highest_rate_of_dropout(tables: Any) -> float:
    """Return the highest `rate` in tables of layers, those within blocks included; 0 without dropout."""
    rates = [table.get("rate", 0.5) for table in tables if table["type"] == "dropout"]
    inner = [table.get(key, ()) for table in tables if table["type"] == "residual" for key in ("layers", "shortcut")]
    return max([*rates, *map(_highest_rate_of_dropout, inner)], default=0.0)
