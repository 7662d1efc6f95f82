"""Learning rate schedules against PyTorch's, and the properties that hold for any settings."""

import math
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnpar.config.choices import Constant, Cosine, OneCycle, Piecewise, Schedule, StepDecay
from cnnpar.optim.schedules import learning_rate

factors = st.floats(0, 1)
drawn = st.builds(
    lambda ends: Piecewise(points=tuple((share, factor) for share, factor in sorted(ends.items()))),
    st.dictionaries(st.floats(0, 1), st.floats(0.01, 1), min_size=1, max_size=6),
)
schedules: st.SearchStrategy[Schedule] = st.one_of(
    st.just(Constant()),
    st.builds(StepDecay, every_epochs=st.integers(1, 5), factor=st.floats(0.01, 1)),
    st.builds(Cosine, warmup_epochs=st.floats(0, 20), final=factors),
    st.builds(OneCycle, warmup=st.floats(0.001, 0.999), start=factors, final=factors),
    drawn,
)
steps_per_epoch_and_epochs = st.tuples(st.integers(1, 50), st.integers(1, 20))
BASE = 0.3


def rates(schedule: Schedule, steps_per_epoch: int, total_steps: int) -> list[float]:
    return [learning_rate(schedule, BASE, step, steps_per_epoch, total_steps) for step in range(total_steps)]


def of_torch(make: Callable[[Any, Any], Any], total_steps: int) -> list[float]:
    """Return the learning rates of PyTorch's optimizer by step; `make` takes lr_scheduler and the optimizer."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE)
    seen = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SequentialLR warns of how it calls its own parts
        scheduler = make(torch.optim.lr_scheduler, optimizer)
        for _ in range(total_steps):
            seen.append(float(optimizer.param_groups[0]["lr"]))
            optimizer.step()
            if len(seen) < total_steps:
                scheduler.step()
    return seen


@pytest.mark.parametrize("total_steps", [7, 20, 333])
@pytest.mark.parametrize(("warmup", "start", "final"), [(0.3, 0.04, 0.0004), (0.5, 0.1, 0.5), (0.9, 1.0, 1e-6)])
def test_one_cycle_agrees_with_pytorch(total_steps: int, warmup: float, start: float, final: float) -> None:
    theirs = of_torch(
        lambda lrs, optimizer: lrs.OneCycleLR(
            optimizer,
            max_lr=BASE,
            total_steps=total_steps,
            pct_start=warmup,
            div_factor=1 / start,
            final_div_factor=start / final,
            cycle_momentum=False,
        ),
        total_steps,
    )
    mine = rates(OneCycle(warmup=warmup, start=start, final=final), 5, total_steps)
    assert mine == pytest.approx(theirs, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(("every", "factor"), [(1, 0.5), (3, 0.1), (4, 2.0), (100, 0.1)])
def test_step_decay_agrees_with_pytorch(every: int, factor: float) -> None:
    theirs = of_torch(lambda lrs, optimizer: lrs.StepLR(optimizer, every * 7, factor), 70)
    assert rates(StepDecay(every_epochs=every, factor=factor), 7, 70) == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_cosine_agrees_with_pytorch(final: float) -> None:
    theirs = of_torch(lambda lrs, optimizer: lrs.CosineAnnealingLR(optimizer, 60, eta_min=BASE * final), 60)
    assert rates(Cosine(final=final), 10, 60) == pytest.approx(theirs, rel=1e-9, abs=1e-15)


def test_cosine_with_warmup_agrees_with_pytorch_sequential() -> None:
    def make(lrs: Any, optimizer: Any) -> Any:
        linear = lrs.LinearLR(optimizer, start_factor=1 / 16, total_iters=15)
        cosine = lrs.CosineAnnealingLR(optimizer, 45, eta_min=BASE * 0.01)
        return lrs.SequentialLR(optimizer, [linear, cosine], milestones=[15])

    theirs = of_torch(make, 60)
    assert rates(Cosine(warmup_epochs=1.5, final=0.01), 10, 60) == pytest.approx(theirs, rel=1e-9)


@given(schedules, steps_per_epoch_and_epochs)
def test_learning_rates_are_floats_between_0_and_the_base_rate(schedule: Schedule, sizes: tuple[int, int]) -> None:
    steps_per_epoch, epochs = sizes
    for rate in rates(schedule, steps_per_epoch, steps_per_epoch * epochs):
        assert type(rate) is float
        assert 0 <= rate <= BASE * (1 + 1e-12)


@given(schedules, steps_per_epoch_and_epochs)
def test_learning_rate_is_positive_between_its_ends(schedule: Schedule, sizes: tuple[int, int]) -> None:
    """A rate of 0 is allowed only where `start`, `final` or a point is 0; for `start` and `final` only at the ends."""
    steps_per_epoch, epochs = sizes
    seen = rates(schedule, steps_per_epoch, steps_per_epoch * epochs)
    assert all(rate > 0 for rate in seen[1:-1])
    if not isinstance(schedule, OneCycle):
        assert seen[0] > 0
        assert seen[-1] > 0


def reaches_final(schedule: Cosine | OneCycle, epochs: int, total_steps: int) -> bool:
    """Return whether the schedule comes down to `final` within the run, which is not all warm-up."""
    return schedule.warmup_epochs < epochs if isinstance(schedule, Cosine) else total_steps > 1


@given(schedules, steps_per_epoch_and_epochs, st.integers(0, 10**6))
def test_learning_rate_stays_final_after_the_run(schedule: Schedule, sizes: tuple[int, int], later: int) -> None:
    steps_per_epoch, epochs = sizes
    total = steps_per_epoch * epochs
    end = learning_rate(schedule, BASE, total, steps_per_epoch, total)
    assert learning_rate(schedule, BASE, total + later, steps_per_epoch, total) == end
    if isinstance(schedule, Cosine | OneCycle) and reaches_final(schedule, epochs, total):
        assert end == pytest.approx(BASE * schedule.final)
    elif isinstance(schedule, StepDecay):
        assert end == learning_rate(schedule, BASE, total - 1, steps_per_epoch, total)


@given(drawn, steps_per_epoch_and_epochs)
def test_piecewise_agrees_with_numpy_interp(schedule: Piecewise, sizes: tuple[int, int]) -> None:
    total = sizes[0] * sizes[1]
    places = (np.arange(total) + 0.5) / total
    shares, heights = np.array(schedule.points).T
    assert rates(schedule, sizes[0], total) == pytest.approx(BASE * np.interp(places, shares, heights), rel=1e-9)


def test_piecewise_rate_ending_at_0_is_never_negative() -> None:
    """Rounding is worst at a step whose middle is the last float before the point of rate 0."""
    rng = np.random.default_rng(0)
    for step in rng.integers(300, 1000, 5000).tolist():
        end = math.nextafter((step + 0.5) / 1000, math.inf)
        schedule = Piecewise(points=((0.3 * rng.random(), rng.random()), (end, 0.0)))
        assert 0 <= learning_rate(schedule, BASE, step, 1, 1000) < 1e-12


def test_piecewise_can_restart_within_one_step() -> None:
    schedule = Piecewise(points=((0.0, 0.0), (0.5, 1.0), (0.8, 0.0), (0.801, 0.1), (1.0, 0.0)))
    seen = rates(schedule, 10, 100)
    assert seen[79] < 0.02 * BASE
    assert seen[80] == pytest.approx(0.1 * BASE, rel=0.03)
    assert 0 < seen[99] < 0.001 * BASE * 3


@given(st.floats(0.2, 4), factors, st.integers(50, 400))
def test_cosine_changes_by_small_steps(warmup_epochs: float, final: float, total_steps: int) -> None:
    """The rate has no jump, the end of the warm-up included."""
    steps_per_epoch = total_steps // 5
    warmup = warmup_epochs * steps_per_epoch
    assert_no_jump(
        rates(Cosine(warmup_epochs=warmup_epochs, final=final), steps_per_epoch, total_steps),
        min(warmup, total_steps - warmup),
    )


@given(st.floats(0.1, 0.9), factors, factors, st.integers(50, 400))
def test_one_cycle_changes_by_small_steps(warmup: float, start: float, final: float, total_steps: int) -> None:
    schedule = OneCycle(warmup=warmup, start=start, final=final)
    assert_no_jump(rates(schedule, 10, total_steps), min(warmup * total_steps - 1, (1 - warmup) * total_steps))


def assert_no_jump(seen: list[float], shortest: float) -> None:
    """Assert a slope of at most pi / 2 times that of a line over `shortest` steps, as half a cosine has."""
    largest = max(abs(after - before) for before, after in pairwise(seen))
    assert largest <= math.pi / 2 * BASE / shortest * (1 + 1e-9)


@pytest.mark.parametrize(
    "schedule", [Constant(), StepDecay(), Cosine(), Cosine(warmup_epochs=1.0), OneCycle(), Piecewise()]
)
def test_run_of_one_step_has_at_least_half_the_base_rate(schedule: Schedule) -> None:
    assert learning_rate(schedule, BASE, 0, 1, 1) >= BASE / 2


def test_one_cycle_reaches_start_peak_and_final_rates() -> None:
    schedule = OneCycle(warmup=0.25, start=0.1, final=0.01)
    seen = rates(schedule, 10, 100)
    assert seen[0] == pytest.approx(0.1 * BASE)
    assert seen[24] == pytest.approx(BASE)
    assert max(seen) == seen[24]
    assert seen[99] == pytest.approx(0.01 * BASE)


@given(schedules)
def test_learning_rate_does_not_depend_on_the_order_of_calls(schedule: Schedule) -> None:
    forwards = [learning_rate(schedule, BASE, step, 7, 42) for step in range(50)]
    backwards = [learning_rate(schedule, BASE, step, 7, 42) for step in reversed(range(50))]
    assert backwards[::-1] == forwards
