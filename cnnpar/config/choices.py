"""Settings of losses, optimizers and learning-rate schedules: one struct each, chosen by `type` in the TOML file."""

import sys
from itertools import pairwise
from typing import Annotated

from msgspec import Meta, Struct

from cnnpar.config.float32 import Factor

_LARGEST = sys.float_info.max  # the bound excludes infinity, which neither JSON nor arithmetic has a use for
MOST = 2**53  # JSON readers that store numbers as doubles keep every integer up to this one

Positive = Annotated[int, Meta(ge=1, le=MOST)]
Count = Annotated[int, Meta(ge=0, le=MOST)]
PositiveFloat = Annotated[float, Meta(gt=0, le=_LARGEST)]
NonNegative = Annotated[float, Meta(ge=0, le=_LARGEST)]
BelowOne = Annotated[float, Meta(ge=0, lt=1)]
UpToOne = Annotated[float, Meta(ge=0, le=1)]
Seconds = Annotated[float, Meta(ge=0.01, le=1e7)]  # from 10 ms to 116 days


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all settings: one table of the TOML file; unknown keys are errors."""


class CrossEntropy(Table, frozen=True, tag_field="type", tag="cross_entropy"):
    """Softmax followed by cross-entropy."""

    label_smoothing: BelowOne = 0.0  # part of the target spread evenly over all classes (Szegedy et al. 2016), below 1
    class_weights: tuple[NonNegative, ...] = ()  # factor of the loss for each class, in class order; () = 1 for all

    def __post_init__(self) -> None:
        if self.class_weights and not any(self.class_weights):
            raise ValueError("`class_weights` are all 0, so nothing could be learned; one at least must be above 0")


class MSE(Table, frozen=True, tag_field="type", tag="mse"):
    """Mean squared error between the outputs and the one-hot label."""


class BinaryCrossEntropy(Table, frozen=True, tag_field="type", tag="binary_cross_entropy"):
    """Sigmoid followed by binary cross-entropy: each class against all others."""


class Hinge(Table, frozen=True, tag_field="type", tag="hinge"):
    """Multi-class hinge loss: penalise every output that comes within `margin` of the label's output."""

    margin: PositiveFloat = 1.0  # in units of the network's outputs, above 0


class SGD(Table, frozen=True, tag_field="type", tag="sgd"):
    """Stochastic gradient descent with momentum."""

    learning_rate: PositiveFloat = 0.05  # base value, above 0; the schedule multiplies it
    momentum: Factor = 0.9  # part of the last step that is kept, below 1; 0 = none
    nesterov: bool = True  # Nesterov's momentum (Sutskever et al. 2013); needs `momentum`
    weight_decay: NonNegative = 1e-4  # L2 penalty: this times the weights is added to the gradient; 0 = none

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise ValueError("`nesterov` needs `momentum` above 0")


class Adam(Table, frozen=True, tag_field="type", tag="adam"):
    """Adam (Kingma and Ba 2015)."""

    learning_rate: PositiveFloat = 0.001  # base value, above 0; the schedule multiplies it
    beta1: BelowOne = 0.9  # decay of the moving average of the gradient, below 1
    beta2: BelowOne = 0.999  # decay of the moving average of the squared gradient, below 1
    epsilon: PositiveFloat = 1e-8  # added to the denominator
    weight_decay: NonNegative = 0.0  # L2 penalty: this times the weights is added to the gradient; 0 = none


class AdamW(Table, frozen=True, tag_field="type", tag="adamw"):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    learning_rate: PositiveFloat = 0.001  # base value, above 0; the schedule multiplies it
    beta1: BelowOne = 0.9  # decay of the moving average of the gradient, below 1
    beta2: BelowOne = 0.999  # decay of the moving average of the squared gradient, below 1
    epsilon: PositiveFloat = 1e-8  # added to the denominator
    weight_decay: NonNegative = 0.01  # decoupled: learning rate times this times the weights is subtracted; 0 = none


class RMSprop(Table, frozen=True, tag_field="type", tag="rmsprop"):
    """RMSprop (Tieleman and Hinton 2012)."""

    learning_rate: PositiveFloat = 0.01  # base value, above 0; the schedule multiplies it
    alpha: BelowOne = 0.99  # decay of the moving average of the squared gradient, below 1
    momentum: Factor = 0.0  # part of the last step that is kept, below 1; 0 = none
    epsilon: PositiveFloat = 1e-8  # added to the denominator
    weight_decay: NonNegative = 0.0  # L2 penalty: this times the weights is added to the gradient; 0 = none


class Adagrad(Table, frozen=True, tag_field="type", tag="adagrad"):
    """Adagrad (Duchi et al. 2011)."""

    learning_rate: PositiveFloat = 0.01  # base value, above 0; the schedule multiplies it
    epsilon: PositiveFloat = 1e-10  # added to the denominator
    weight_decay: NonNegative = 0.0  # L2 penalty: this times the weights is added to the gradient; 0 = none


class LARS(Table, frozen=True, tag_field="type", tag="lars"):
    """LARS: SGD with momentum, each array's step scaled by its weights' norm (You et al. 2017), for large batches.

    Parameters of one dimension (biases, scale and shift of normalisation) take SGD's steps, without `weight_decay`.
    """

    learning_rate: PositiveFloat = 0.05  # base value, above 0; the schedule multiplies it
    momentum: Factor = 0.9  # part of the last step that is kept, below 1; 0 = none
    trust_coefficient: PositiveFloat = 0.02  # norm of the step over norm of the weights, at learning rate 1
    weight_decay: NonNegative = 1e-4  # L2 penalty: this times the weights is added to the gradient; 0 = none


class LAMB(Table, frozen=True, tag_field="type", tag="lamb"):
    """LAMB: AdamW, each array's step scaled by its weights' norm (You et al. 2020), for large batches.

    Parameters of one dimension (biases, scale and shift of normalisation) take Adam's steps, without `weight_decay`.
    """

    learning_rate: PositiveFloat = 0.01  # base value, above 0; the schedule multiplies it
    beta1: BelowOne = 0.9  # decay of the moving average of the gradient, below 1
    beta2: BelowOne = 0.999  # decay of the moving average of the squared gradient, below 1
    epsilon: PositiveFloat = 1e-6  # added to the denominator
    weight_decay: NonNegative = 0.01  # this times the weights is added to Adam's direction before scaling; 0 = none


class Constant(Table, frozen=True, tag_field="type", tag="constant"):
    """Constant learning rate."""


class StepDecay(Table, frozen=True, tag_field="type", tag="step"):
    """Step decay: multiply the learning rate by `factor` after every `every_epochs` epochs."""

    every_epochs: Positive = 10  # epochs between two decays, from 1 up
    factor: Annotated[float, Meta(gt=0, le=1)] = 0.1  # above 0, at most 1


class Cosine(Table, frozen=True, tag_field="type", tag="cosine"):
    """Linear warm-up, then half a cosine down to `final` times the learning rate (Loshchilov and Hutter 2017)."""

    warmup_epochs: NonNegative = 0.0  # epochs of warm-up, fractions allowed, at most `train.epochs`; 0 = none
    final: UpToOne = 0.0  # factor of the learning rate that is reached after the last step, 0 to 1


class OneCycle(Table, frozen=True, tag_field="type", tag="one_cycle"):
    """One cycle: half a cosine up to the learning rate, then half a cosine down (Smith and Topin 2018)."""

    warmup: Annotated[float, Meta(gt=0, lt=1)] = 0.3  # fraction of all steps that go up, between 0 and 1
    start: UpToOne = 0.04  # factor of the learning rate at the first step, 0 to 1
    final: UpToOne = 0.0004  # factor of the learning rate at the last step, 0 to 1


class Piecewise(Table, frozen=True, tag_field="type", tag="piecewise"):
    """Piecewise linear schedule through `points`, constant before the first and after the last."""

    # Each point is [fraction of all steps, factor of the learning rate]; fractions must rise.
    points: Annotated[
        tuple[tuple[UpToOne, NonNegative], ...],
        Meta(
            min_length=1,
            max_length=1000,
            description="[[share, factor], ...], such as [[0, 0.1], [0.3, 1], [1, 0]]: shares of the run from 0 to 1, "
            "factors of the learning rate from 0 up",  # quoted in error messages
        ),
    ] = (
        (0.0, 0.0),
        (0.3, 1.0),
        (1.0, 0.0),
    )

    def __post_init__(self) -> None:
        shares = [share for share, _ in self.points]
        for before, after in pairwise(shares):
            if after <= before:
                raise ValueError(f"`points` go from {before!r} to {after!r} of the run; their shares must rise")
        if not any(factor for _, factor in self.points):
            raise ValueError("`points` have no factor above 0, so nothing could be learned")


Loss = CrossEntropy | MSE | BinaryCrossEntropy | Hinge
Optimizer = SGD | Adam | AdamW | RMSprop | Adagrad | LARS | LAMB
Schedule = Constant | StepDecay | Cosine | OneCycle | Piecewise
