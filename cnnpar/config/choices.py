"""Settings of what is learned by: losses, update rules, schedules; each is known by its `type`."""

import sys
from itertools import pairwise
from typing import Annotated

from msgspec import Meta, Struct

_LARGEST = sys.float_info.max  # infinity is no setting
MOST = 2**53  # every reader of JSON keeps integers up to here
Positive = Annotated[int, Meta(ge=1, le=MOST)]
Count = Annotated[int, Meta(ge=0, le=MOST)]
PositiveFloat = Annotated[float, Meta(gt=0, le=_LARGEST)]
Seconds = Annotated[float, Meta(ge=0.01, le=1e7)]
NonNegative = Annotated[float, Meta(ge=0, le=_LARGEST)]
Share = Annotated[float, Meta(ge=0, lt=1)]
Whole = Annotated[float, Meta(ge=0, le=1)]


class Table(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the TOML file."""


class CrossEntropy(Table, frozen=True, tag_field="type", tag="cross_entropy"):
    """Softmax and cross-entropy. `class_weights`: one for each class, in their order; () = all alike."""

    label_smoothing: Share = 0.0  # share of a label that is spread over all classes
    class_weights: tuple[NonNegative, ...] = ()

    def __post_init__(self) -> None:
        if self.class_weights and not any(self.class_weights):
            raise ValueError("`class_weights` are all 0, so nothing could be learned; one at least must be above 0")


class MSE(Table, frozen=True, tag_field="type", tag="mse"):
    """The mean square of the difference from 1 at the label and 0 elsewhere."""


class BinaryCrossEntropy(Table, frozen=True, tag_field="type", tag="binary_cross_entropy"):
    """Sigmoid and cross-entropy, each class against all others."""


class Hinge(Table, frozen=True, tag_field="type", tag="hinge"):
    """How far the label is from leading all other classes by `margin`."""

    margin: PositiveFloat = 1.0


class SGD(Table, frozen=True, tag_field="type", tag="sgd"):
    """Stochastic gradient descent; `weight_decay` is L2 (added to the gradient)."""

    learning_rate: PositiveFloat = 0.05
    momentum: Share = 0.9
    nesterov: bool = True
    weight_decay: NonNegative = 1e-4

    def __post_init__(self) -> None:
        if self.nesterov and not self.momentum:
            raise ValueError("`nesterov` needs a `momentum` above 0")


class Adam(Table, frozen=True, tag_field="type", tag="adam"):
    """Adam (Kingma and Ba 2015); `weight_decay` is L2 (added to the gradient)."""

    learning_rate: PositiveFloat = 0.001
    beta1: Share = 0.9
    beta2: Share = 0.999
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegative = 0.0


class AdamW(Table, frozen=True, tag_field="type", tag="adamw"):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""

    learning_rate: PositiveFloat = 0.001
    beta1: Share = 0.9
    beta2: Share = 0.999
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegative = 0.01


class RMSprop(Table, frozen=True, tag_field="type", tag="rmsprop"):
    """RMSprop (Tieleman and Hinton 2012); `weight_decay` is L2 (added to the gradient)."""

    learning_rate: PositiveFloat = 0.01
    alpha: Share = 0.99  # what the running mean of squares keeps at each step
    momentum: Share = 0.0
    epsilon: PositiveFloat = 1e-8
    weight_decay: NonNegative = 0.0


class Adagrad(Table, frozen=True, tag_field="type", tag="adagrad"):
    """Adagrad (Duchi et al. 2011); `weight_decay` is L2 (added to the gradient)."""

    learning_rate: PositiveFloat = 0.01
    epsilon: PositiveFloat = 1e-10
    weight_decay: NonNegative = 0.0


class LARS(Table, frozen=True, tag_field="type", tag="lars"):
    """SGD with momentum whose steps are in proportion to each array of weights (You et al. 2017), for large batches.

    Parameters of one dimension (biases; scale and shift of normalisation) take plain steps, without `weight_decay`.
    """

    learning_rate: PositiveFloat = 0.05
    momentum: Share = 0.9
    trust_coefficient: PositiveFloat = 0.02  # a step's length, over that of the weights, at learning rate 1
    weight_decay: NonNegative = 1e-4


class LAMB(Table, frozen=True, tag_field="type", tag="lamb"):
    """AdamW whose steps are in proportion to each array of weights (You et al. 2020), for large batches.

    Parameters of one dimension (biases; scale and shift of normalisation) take Adam's steps, without `weight_decay`.
    """

    learning_rate: PositiveFloat = 0.01
    beta1: Share = 0.9
    beta2: Share = 0.999
    epsilon: PositiveFloat = 1e-6
    weight_decay: NonNegative = 0.01


class Constant(Table, frozen=True, tag_field="type", tag="constant"):
    """The optimizer's learning rate, always."""


class StepDecay(Table, frozen=True, tag_field="type", tag="step"):
    """The learning rate times `factor` after every `every_epochs` epochs."""

    every_epochs: Positive = 10
    factor: Annotated[float, Meta(gt=0, le=1)] = 0.1


class Cosine(Table, frozen=True, tag_field="type", tag="cosine"):
    """Linear warm-up over `warmup_epochs`, then half a cosine down to `final` times the learning rate."""

    warmup_epochs: NonNegative = 0.0
    final: Whole = 0.0


class OneCycle(Table, frozen=True, tag_field="type", tag="one_cycle"):
    """From `start` up to 1 over the first `warmup` share of all steps, then down to `final`, both times as half
    a cosine; factors of the learning rate (Smith and Topin 2018).
    """

    warmup: Annotated[float, Meta(gt=0, lt=1)] = 0.3
    start: Whole = 0.04
    final: Whole = 0.0004


class Piecewise(Table, frozen=True, tag_field="type", tag="piecewise"):
    """Straight lines between `points`, each a share of all steps and a factor of the learning rate; level outside."""

    points: Annotated[
        tuple[tuple[Whole, NonNegative], ...],
        Meta(
            min_length=1,
            max_length=1000,
            description="[[share, factor], ...], such as [[0, 0.1], [0.3, 1], [1, 0]]: shares of the run from 0 to 1, "
            "factors of the learning rate from 0 up",  # for errors
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
