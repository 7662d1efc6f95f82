"""Update rules against PyTorch, and their guarantees: the same bits everywhere, all state restorable, in place."""

import tracemalloc
from typing import Any

import hypothesis
import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnnpar.config.choices import LAMB, LARS, SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop
from cnnpar.optim import init, update
from cnnpar.optim.rules import BLOCK

Vector = NDArray[np.floating]

RULES: dict[str, Optimizer] = {
    "sgd": SGD(momentum=0.0, nesterov=False, weight_decay=0.0),
    "sgd-decay": SGD(momentum=0.0, nesterov=False, weight_decay=0.01),
    "sgd-momentum": SGD(momentum=0.9, nesterov=False, weight_decay=0.01),
    "sgd-nesterov": SGD(momentum=0.8, nesterov=True, weight_decay=0.01),
    "adam": Adam(weight_decay=0.0),
    "adam-decay": Adam(beta1=0.7, beta2=0.95, epsilon=1e-3, weight_decay=0.1),
    "adamw": AdamW(beta1=0.8, beta2=0.99, epsilon=1e-5, weight_decay=0.1),
    "adamw-no-decay": AdamW(weight_decay=0.0),
    "rmsprop": RMSprop(),
    "rmsprop-momentum": RMSprop(alpha=0.9, momentum=0.7, epsilon=1e-4, weight_decay=0.01),
    "adagrad": Adagrad(),
    "adagrad-decay": Adagrad(epsilon=1e-3, weight_decay=0.1),
    "lars": LARS(trust_coefficient=0.2, weight_decay=0.01),
    "lamb": LAMB(beta1=0.8, beta2=0.99, epsilon=1e-5, weight_decay=0.01),
}
ALL = pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
KNOWN = {name: rule for name, rule in RULES.items() if not isinstance(rule, LARS | LAMB)}  # to PyTorch

STEPS = 25
SIZE = 37


def rates() -> list[float]:
    """Return learning rates that change at each step, up and down."""
    return [0.02 * (1 + np.sin(step)) for step in range(STEPS)]


def shapes(size: int) -> list[tuple[int, ...]]:
    """Return the shapes of a weight matrix and a bias with `size` elements in all."""
    return [(2, size // 3), (size - 2 * (size // 3),)]


def problem(size: int, dtype: type[np.floating]) -> tuple[Vector, list[Vector]]:
    """Return parameters, and a gradient for each step, of several magnitudes with some exact zeros."""
    rng = np.random.default_rng(1)
    scale = 10.0 ** rng.integers(-4, 3, size)
    gradients = [rng.normal(size=size) * scale * (rng.random(size) > 0.2) for _ in range(STEPS)]
    return rng.normal(size=size).astype(dtype), [gradient.astype(dtype) for gradient in gradients]


def start(rule: Optimizer, size: int, dtype: type[np.floating]) -> dict[str, Vector]:
    return {name: vector.astype(dtype) for name, vector in init(rule, size).items()}


def run(rule: Optimizer, dtype: type[np.floating], size: int = SIZE) -> tuple[Vector, dict[str, Vector]]:
    parameters, gradients = problem(size, dtype)
    state = start(rule, size, dtype)
    for step, (gradient, rate) in enumerate(zip(gradients, rates(), strict=True)):
        update(rule, state, parameters, gradient.copy(), 1, rate, step, shapes(size))
    return parameters, state


def of_torch(optimizers: Any, rule: Optimizer, parameter: Any) -> Any:
    """Return PyTorch's optimizer with the settings of `rule`; the learning rate is set at each step."""
    common = {"params": [parameter], "lr": 1.0, "weight_decay": rule.weight_decay}
    match rule:
        case SGD():
            return optimizers.SGD(**common, momentum=rule.momentum, nesterov=rule.nesterov)
        case RMSprop():
            return optimizers.RMSprop(**common, alpha=rule.alpha, momentum=rule.momentum, eps=rule.epsilon)
        case Adagrad():
            return optimizers.Adagrad(**common, eps=rule.epsilon)
        case Adam() | AdamW():
            kind = optimizers.AdamW if isinstance(rule, AdamW) else optimizers.Adam
            return kind(**common, betas=(rule.beta1, rule.beta2), eps=rule.epsilon)


@pytest.mark.parametrize("rule", KNOWN.values(), ids=KNOWN)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-6)])
def test_every_step_matches_pytorch(rule: Optimizer, dtype: type[np.floating], tolerance: float) -> None:
    torch = pytest.importorskip("torch")
    parameters, gradients = problem(SIZE, dtype)
    state = start(rule, SIZE, dtype)
    theirs = torch.nn.Parameter(torch.from_numpy(parameters.copy()))
    peer = of_torch(torch.optim, rule, theirs)
    for step, (gradient, rate) in enumerate(zip(gradients, rates(), strict=True)):
        peer.param_groups[0]["lr"] = rate
        theirs.grad = torch.from_numpy(gradient.copy())
        peer.step()
        update(rule, state, parameters, gradient.copy(), 1, rate, step, shapes(SIZE))
        expected = theirs.detach().numpy()
        np.testing.assert_allclose(parameters, expected, rtol=tolerance, atol=tolerance * np.abs(expected).max())


@ALL
def test_every_rule_minimises_a_quadratic(rule: Optimizer) -> None:
    target = np.linspace(-1, 1, 9, dtype=np.float32)
    parameters = np.zeros_like(target)
    state = init(rule, target.size)
    rate = 0.5 if isinstance(rule, Adagrad) else 0.05  # Adagrad slows down by itself
    for step in range(600):
        update(rule, state, parameters, parameters - target, 1, rate * 0.99**step, step, shapes(target.size))
    np.testing.assert_allclose(parameters, target, atol=0.02 + rule.weight_decay)  # decay pulls towards 0


@ALL
def test_float32_stays_float32_with_python_and_numpy_rates(rule: Optimizer) -> None:
    parameters, gradients = problem(SIZE, np.float32)
    results = []
    for rate in (0.1, np.float64(0.1)):
        mine, state = parameters.copy(), init(rule, SIZE)
        for step, gradient in enumerate(gradients):
            update(rule, state, mine, gradient.copy(), 1, rate, step, shapes(SIZE))
        assert mine.dtype == np.float32
        assert all(vector.dtype == np.float32 for vector in state.values())
        results.append(mine.tobytes())
    assert results[0] == results[1]


@ALL
def test_block_size_leaves_float32_bits_unchanged(rule: Optimizer, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters, state = run(rule, np.float32, size=1000)
    monkeypatch.setattr("cnnpar.optim.rules.BLOCK", 17)
    again, state_again = run(rule, np.float32, size=1000)
    assert again.tobytes() == parameters.tobytes()
    assert {name: vector.tobytes() for name, vector in state_again.items()} == {
        name: vector.tobytes() for name, vector in state.items()
    }


@ALL
@pytest.mark.parametrize("pause", [1, 7, STEPS - 1])
def test_restored_parameters_and_state_continue_bitwise_equal(rule: Optimizer, pause: int) -> None:
    expected, expected_state = run(rule, np.float32)
    parameters, gradients = problem(SIZE, np.float32)
    state = init(rule, SIZE)
    for step, (gradient, rate) in enumerate(zip(gradients, rates(), strict=True)):
        if step == pause:  # all that is left of the first half goes through bytes
            parameters = np.frombuffer(parameters.tobytes(), np.float32).copy()
            saved = {name: vector.tobytes() for name, vector in state.items()}
            state = {name: np.frombuffer(data, np.float32).copy() for name, data in saved.items()}
        update(rule, state, parameters, gradient.copy(), 1, rate, step, shapes(SIZE))
    assert parameters.tobytes() == expected.tobytes()
    assert {name: vector.tobytes() for name, vector in state.items()} == {
        name: vector.tobytes() for name, vector in expected_state.items()
    }


@ALL
def test_update_changes_parameters_and_state_in_place(rule: Optimizer) -> None:
    parameters, gradients = problem(SIZE, np.float32)
    state = init(rule, SIZE)
    before = parameters.copy()
    address, vectors = parameters.ctypes.data, dict(state)
    update(rule, state, parameters, gradients[0], 1, 0.1, 0, shapes(SIZE))
    assert parameters.ctypes.data == address
    assert (parameters != before).any()
    assert state.keys() == vectors.keys()
    assert all(state[name] is vectors[name] for name in vectors)


@ALL
def test_compiled_rules_have_the_bits_of_numpy(rule: Optimizer, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba")
    monkeypatch.setattr("cnnpar.optim.rules.WORTH", 0)
    compiled, state = run(rule, np.float32, size=30_000)
    monkeypatch.setattr("cnnpar.optim.rules.WORTH", 10**9)
    expected, expected_state = run(rule, np.float32, size=30_000)
    assert compiled.tobytes() == expected.tobytes()
    assert all(state[name].tobytes() == expected_state[name].tobytes() for name in state)


@ALL
@pytest.mark.parametrize("size", [1000, 100_000])
def test_gradient_sum_is_divided_by_the_number_of_samples(rule: Optimizer, size: int) -> None:
    parameters, gradients = problem(size, np.float32)
    results = []
    for gradient, count in ((gradients[0], 7), (gradients[0] / np.float32(7), 1)):
        mine, state = parameters.copy(), init(rule, size)
        update(rule, state, mine, gradient, count, 0.1, 3, shapes(size))
        results.append(mine.tobytes())
    assert results[0] == results[1]


def test_initial_state_is_zero_float32_vectors() -> None:
    assert init(RULES["sgd"], 5) == {}
    expected = {
        "sgd-momentum": {"velocity"},
        "adam": {"mean", "square"},
        "adamw": {"mean", "square"},
        "rmsprop": {"square"},
        "rmsprop-momentum": {"square", "velocity"},
        "adagrad": {"squares"},
        "lars": {"velocity"},
        "lamb": {"mean", "square"},
    }
    for rule, names in expected.items():
        state = init(RULES[rule], 5)
        assert state.keys() == names
        for vector in state.values():
            assert vector.dtype == np.float32
            assert vector.tolist() == [0.0] * 5


@ALL
def test_update_allocates_no_whole_vector(rule: Optimizer) -> None:
    size = 20 * BLOCK
    parameters = np.ones(size, np.float32)
    gradient = np.ones(size, np.float32)
    state = init(rule, size)
    update(rule, state, parameters, gradient, 1, 0.1, 0, shapes(size))  # loads what is compiled
    tracemalloc.start()
    try:
        update(rule, state, parameters, gradient, 1, 0.1, 0, shapes(size))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < parameters.nbytes / 10


@ALL
def test_vectors_of_different_lengths_are_refused(rule: Optimizer) -> None:
    with pytest.raises(ValueError, match="one length"):
        update(rule, init(rule, 4), np.zeros(4, np.float32), np.zeros(5, np.float32), 1, 0.1, 0, shapes(4))
    with pytest.raises(ValueError, match="that of all arrays"):
        update(rule, init(rule, 4), np.zeros(4, np.float32), np.zeros(4, np.float32), 1, 0.1, 0, shapes(5))


@ALL
def test_update_of_an_empty_vector_is_accepted(rule: Optimizer) -> None:
    update(rule, init(rule, 0), np.zeros(0, np.float32), np.zeros(0, np.float32), 1, 0.1, 0, shapes(0))


def test_first_adam_step_is_the_rate_against_the_gradients_sign() -> None:
    gradient = np.array([1e-6, -1e-3, 1.0, -1e6])
    parameters = np.zeros(4)
    update(Adam(epsilon=1e-30), start(Adam(), 4, np.float64), parameters, gradient.copy(), 1, 0.01, 0, [(4,)])
    np.testing.assert_allclose(parameters, -0.01 * np.sign(gradient), rtol=1e-12)


def test_adam_stays_correct_after_millions_of_steps() -> None:
    """The corrections tend to 1; nothing overflows or divides by zero far into a run."""
    rule = Adam()
    state = {"mean": np.full(3, 0.5), "square": np.full(3, 0.25)}
    parameters = np.zeros(3)
    update(rule, state, parameters, np.full(3, 0.5), 1, 0.1, 10**8, [(3,)])
    np.testing.assert_allclose(parameters, -0.1 * 0.5 / (0.5 + 1e-8), rtol=1e-12)


@ALL
@hypothesis.given(
    data=hnp.arrays(np.float32, (3, 5), elements=st.floats(-1e3, 1e3, width=32)),
    rate=st.floats(0, 1),
    step=st.integers(0, 10**6),
)
@hypothesis.settings(max_examples=40, deadline=None)
def test_finite_input_gives_finite_output(rule: Optimizer, data: Vector, rate: float, step: int) -> None:
    parameters = data[0].copy()
    state = init(rule, 5)
    for gradient in data[1:]:
        update(rule, state, parameters, gradient.copy(), 1, rate, step, shapes(5))
    assert np.isfinite(parameters).all()
    assert all(np.isfinite(vector).all() for vector in state.values())
