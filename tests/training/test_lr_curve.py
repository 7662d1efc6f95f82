"""The curve of the learning-rate finder: rates, smoothing, suggestion, table and picture."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnpar.errors import InputError
from cnnpar.report.lr_find import as_text, draw_curve
from cnnpar.training.lr_curve import Curve, Range, smooth
from tests.helpers.pictures import TRAINING, VALIDATION, has_colour, pixels

signal = pytest.importorskip("scipy.signal")


def curve(steps: int, tried: int, loss: Any, noise: float = 0.05, seed: int = 0) -> Curve:
    """Return a curve over rates from 1e-6 to 10; `loss` is a function of the rate's logarithm to base 10."""
    rates = Range(1e-6, 10.0, steps).rates(1)
    chance = np.random.default_rng(seed)
    return Curve.of(rates, [loss(np.log10(rate)) + noise * chance.standard_normal() for rate in rates[:tried]])


def valley(exponent: float) -> float:
    """Return a loss that falls from 2.3, most steeply at 1e-3, to its lowest near 1e-1, and then rises."""
    return float(2.3 - 2 / (1 + np.exp(-3 * (exponent + 3))) + np.exp(5 * (exponent + 0.5)))


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.integers(2, 20))
def test_smoothing_is_scipys_filter_over_its_sum_of_weights(losses: list[float], window: int) -> None:
    share = 1 / window
    filtered = signal.lfilter([share], [1, share - 1], losses)
    weights = signal.lfilter([share], [1, share - 1], np.ones(len(losses)))
    np.testing.assert_allclose(smooth(losses, window), filtered / weights, rtol=1e-10)


@given(st.floats(1e-12, 1e3), st.floats(1.01, 1e12), st.integers(20, 300))
def test_rates_grow_by_one_factor_from_the_first_to_the_last(low: float, factor: float, steps: int) -> None:
    rates = Range(low, low * factor, steps).rates(7)
    np.testing.assert_allclose(rates, np.geomspace(low, low * factor, steps), rtol=1e-9)


@pytest.mark.parametrize(("steps_per_epoch", "steps"), [(1, 50), (49, 50), (120, 120), (5000, 200)])
def test_a_rate_for_each_step_of_an_epoch_within_50_to_200(steps_per_epoch: int, steps: int) -> None:
    assert len(Range(1e-6, 10.0).rates(steps_per_epoch)) == steps


@pytest.mark.parametrize(
    ("low", "high", "steps", "words"),
    [
        (0.0, 1.0, None, "--from 0 --to 1"),
        (1.0, 1.0, None, "lower one first"),
        (1.0, float("inf"), None, "--to inf"),
        (float("nan"), 1.0, None, "--from nan"),
        (0.1, 1.0, 19, "--steps 19: from 20 to 10,000"),
        (0.1, 1.0, 0, "--steps 0"),
        (0.1, 1.0, 10_001, "--steps 10001"),
    ],
)
def test_ranges_out_of_bounds_are_refused(low: float, high: float, steps: int | None, words: str) -> None:
    with pytest.raises(InputError, match=words):
        Range(low, high, steps)


@pytest.mark.parametrize("steps", [50, 100, 200, 1000])
def test_suggestion_is_a_tenth_of_the_rate_of_lowest_loss(steps: int) -> None:
    found = curve(steps, steps * 6 // 7, valley)
    assert found.suggestion == found.rates[found.best] / 10
    assert 0.003 < found.suggestion < 0.05
    assert found.steepest is not None
    assert 3e-4 < found.rates[found.steepest] < 5e-3


@pytest.mark.parametrize("steps", [20, 50, 200])
def test_noise_around_a_flat_loss_gives_no_suggestion(steps: int) -> None:
    fell = [curve(steps, steps, lambda _: 2.3, 0.3, seed).fell for seed in range(100)]
    assert sum(fell) <= 2
    flat = curve(steps, steps, lambda _: 2.3, 0.3)
    assert (flat.suggestion, flat.steepest) == (None, None)
    assert "no suggestion" in as_text(flat)


@pytest.mark.parametrize(("last", "diverged"), [(3.9, False), (4.1, True), (float("nan"), True), (float("inf"), True)])
def test_a_loss_of_four_times_the_lowest_is_divergence(last: float, diverged: bool) -> None:
    assert Curve.of([0.1] * 20, [1.0] * 19 + [2 * last - 1]).diverged == diverged  # half of it is smoothed away


CURVES = {
    "whole": curve(200, 200, lambda exponent: 2.3 - 0.2 * (exponent + 6)),
    "ended": curve(200, 165, valley),
    "short": curve(50, 43, valley),
    "flat": curve(50, 50, lambda _: 2.3),
    "steep": Curve.of(Range(1e2, 1e9, 50).rates(1), [2.3, 1e10]),
    "single": Curve.of(Range(1e2, 1e9, 50).rates(1), [2.3]),
    "huge": curve(100, 86, lambda exponent: 1e8 * valley(exponent), 1e6),
}


@pytest.mark.parametrize("name", CURVES)
def test_the_table_fits_80_columns_and_ends_with_a_suggestion(name: str) -> None:
    lines = as_text(CURVES[name]).splitlines()
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 21
    assert sum("lowest" in line for line in lines[:-1]) == 1
    suggestion = CURVES[name].suggestion
    assert lines[-1].startswith("no suggestion" if suggestion is None else "suggested: optimizer.learning_rate = ")
    assert any("stopped after" in line for line in lines) == (name not in ("whole", "flat"))
    assert any("still fell at the end" in line for line in lines) == (name == "whole")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in ("whole", "single") else pytest.mark.slow) for name in CURVES]
)
def test_the_picture_shows_losses_and_marks_within_its_margins(tmp_path: Path, name: str) -> None:
    path = tmp_path / "lr-find.png"
    draw_curve(CURVES[name], path, "$\\frac{$ Learning rates")
    image = pixels(path)
    body = image[80:]  # below the legend
    assert has_colour(body, VALIDATION) or name == "single"
    assert has_colour(body, TRAINING)
    assert has_colour(body, (0, 0, 0))
    assert all((edge == 255).all() for edge in (image[:, :4], image[:, -4:], image[-4:], image[:4]))
    assert list(tmp_path.iterdir()) == [path]
