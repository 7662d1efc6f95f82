"""LARS and LAMB against the formulas of their papers, and the norms of whole arrays that both need."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnnpar.config.choices import LAMB, LARS, Optimizer
from cnnpar.optim import init, update
from cnnpar.optim.norms import norm, trust_ratio

Vector = NDArray[np.floating]

SHAPES: list[tuple[int, ...]] = [(3, 3, 2, 4), (4,), (20, 5), (5,), (1, 1)]
SIZE = 72 + 4 + 100 + 5 + 1
WEIGHTS = np.repeat([True, False, True, False, True], [72, 4, 100, 5, 1])
STEPS = 20


def parts(vector: Vector) -> Iterator[Vector]:
    """Yield the arrays of a vector as views of SHAPES."""
    for shape, part in zip(SHAPES, np.split(vector, [72, 76, 176, 181]), strict=True):
        yield part.reshape(shape)


def problem() -> tuple[Vector, list[Vector]]:
    rng = np.random.default_rng(3)
    return rng.standard_normal(SIZE), [rng.standard_normal(SIZE) * 10.0**power for power in rng.integers(-3, 3, STEPS)]


def run(rule: Optimizer, factor: float = 1.0, dtype: type[np.floating] = np.float64, count: int = 1) -> list[Vector]:
    """Return the parameters before the first and after each step, with gradients times `factor`."""
    start, gradients = problem()
    parameters = start.astype(dtype)
    state = {name: vector.astype(dtype) for name, vector in init(rule, SIZE).items()}
    path = [parameters.copy()]
    for step, gradient in enumerate(gradients):
        update(rule, state, parameters, (gradient * factor).astype(dtype), count, 0.1, step, SHAPES)
        path.append(parameters.copy())
    return path


@pytest.mark.parametrize("count", [1, 48])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-5)])
def test_lars_agrees_with_the_paper(dtype: type[np.floating], tolerance: float, count: int) -> None:
    """The paper's velocity is this one's times the learning rate, which is constant here."""
    rule = LARS(trust_coefficient=0.02, momentum=0.8, weight_decay=0.03)
    expected, gradients = problem()
    velocity = np.zeros(SIZE)
    for step, gradient in enumerate(gradients, 1):
        for w, v, g in zip(parts(expected), parts(velocity), parts(gradient / count), strict=True):
            if w.ndim > 1:
                g_norm, w_norm = np.linalg.norm(g.ravel()), np.linalg.norm(w.ravel())
                local = 0.02 * w_norm / (g_norm + 0.03 * w_norm)
                v[...] = 0.8 * v + 0.1 * local * (g + 0.03 * w)
            else:
                v[...] = 0.8 * v + 0.1 * g
            w -= v
        got = run(rule, dtype=dtype, count=count)[step]
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("count", [1, 48])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 3e-5)])
def test_lamb_agrees_with_the_paper(dtype: type[np.floating], tolerance: float, count: int) -> None:
    rule = LAMB(beta1=0.7, beta2=0.95, epsilon=1e-4, weight_decay=0.03)
    expected, gradients = problem()
    mean, square = np.zeros(SIZE), np.zeros(SIZE)
    for t, gradient in enumerate(gradients, 1):
        mean = 0.7 * mean + 0.3 * gradient / count
        square = 0.95 * square + 0.05 * (gradient / count) ** 2
        adam = mean / (1 - 0.7**t) / (np.sqrt(square / (1 - 0.95**t)) + 1e-4)
        for w, r in zip(parts(expected), parts(adam), strict=True):
            if w.ndim > 1:
                r += 0.03 * w
                w -= 0.1 * np.linalg.norm(w.ravel()) / np.linalg.norm(r.ravel()) * r
            else:
                w -= 0.1 * r
        got = run(rule, dtype=dtype, count=count)[t]
        np.testing.assert_allclose(got, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@pytest.mark.parametrize("power", [-20, -3, 1, 20])
def test_scaled_gradients_leave_lars_weights_unchanged(power: int) -> None:
    rule = LARS(weight_decay=0.0)
    one, other = run(rule, dtype=np.float32), run(rule, 2.0**power, np.float32)
    for mine, scaled in zip(one, other, strict=True):
        assert mine[WEIGHTS].tobytes() == scaled[WEIGHTS].tobytes()
    assert (one[-1][~WEIGHTS] != other[-1][~WEIGHTS]).all()


@pytest.mark.parametrize("factor", [1e-3, 7.0, 1e3])
def test_scaled_gradients_leave_lamb_unchanged_without_epsilon(factor: float) -> None:
    rule = LAMB(epsilon=1e-30)
    np.testing.assert_allclose(run(rule, factor)[-1], run(rule)[-1], rtol=1e-10)


def lengths(before: Vector, after: Vector) -> list[float]:
    """Return for each array of weights the norm of its change over its own norm."""
    pairs = zip(parts(before), parts(after), strict=True)
    return [float(np.linalg.norm((b - a).ravel()) / np.linalg.norm(b.ravel())) for b, a in pairs if b.ndim > 1]


def test_relative_step_length_is_rate_times_trust_coefficient() -> None:
    lars = run(LARS(trust_coefficient=0.3, momentum=0.0, weight_decay=0.0))
    lamb = run(LAMB(weight_decay=0.1))
    for step in range(STEPS):
        np.testing.assert_allclose(lengths(*lars[step : step + 2]), 0.1 * 0.3, rtol=1e-10)
        np.testing.assert_allclose(lengths(*lamb[step : step + 2]), 0.1, rtol=1e-10)


@pytest.mark.parametrize("rule", [LARS(weight_decay=0.5), LAMB(weight_decay=0.5)], ids=["lars", "lamb"])
def test_weight_decay_spares_one_dimensional_parameters(rule: Optimizer) -> None:
    parameters = np.ones(SIZE, np.float32)
    state = init(rule, SIZE)
    for step in range(3):
        update(rule, state, parameters, np.zeros(SIZE, np.float32), 1, 0.1, step, SHAPES)
    assert (parameters[~WEIGHTS] == 1).all()
    assert (parameters[WEIGHTS] < 1).all()


@pytest.mark.parametrize("rule", [LARS(), LAMB()], ids=["lars", "lamb"])
def test_all_zero_weights_start_to_move(rule: Optimizer) -> None:
    parameters = np.zeros(SIZE, np.float32)
    update(rule, init(rule, SIZE), parameters, np.ones(SIZE, np.float32), 1, 0.1, 0, SHAPES)
    assert (parameters < 0).all()


def test_trust_ratio_is_finite_in_float32_and_1_for_zero_norms() -> None:
    assert trust_ratio(0.0, 3.0) == trust_ratio(3.0, 0.0) == 1.0
    assert trust_ratio(1.0, 4.0) == 0.25
    assert np.isfinite(np.float32(trust_ratio(1e3, 1e-45)))


@given(size=st.integers(0, 20_000), offset=st.integers(0, 17), seed=st.integers(0, 2**32))
def test_norm_is_accurate_and_independent_of_memory_alignment(size: int, offset: int, seed: int) -> None:
    values = np.random.default_rng(seed).standard_normal(size, np.float32)
    elsewhere = np.zeros(size + offset, np.float32)[offset:]
    elsewhere[:] = values
    assert norm(elsewhere) == norm(values)
    assert norm(values) == pytest.approx(np.linalg.norm(values.astype(np.longdouble)), rel=1e-14)


def test_norm_of_the_largest_float32_numbers_is_finite() -> None:
    largest = np.finfo(np.float32).max
    assert norm(np.full(40_000, largest)) == pytest.approx(200 * float(largest))
