"""Mixup: shares of the Beta distribution, partners from the whole epoch, and the labels of both images."""

import numpy as np
import pytest
from scipy import stats

from cnnpar.config.sections import Augment, Train
from cnnpar.data.augment.augmenter import Augmenter
from cnnpar.data.augment.mixup import Targets, mixed, random_pairs
from cnnpar.data.dataset import Dataset
from cnnpar.data.preprocessing import Preprocessing

COUNT = 5000


@pytest.mark.parametrize("alpha", [0.2, 0.5, 1.0, 1.7, 8.0, 300.0])
def test_mixup_shares_follow_the_beta_distribution(alpha: float) -> None:
    partners, shares = random_pairs(1, 2, COUNT, alpha)
    distribution = stats.beta(alpha, alpha)
    assert stats.kstest(shares, distribution.cdf).pvalue > 1e-4
    assert shares.var() == pytest.approx(distribution.var(), rel=0.1)
    assert stats.chisquare(np.bincount(partners * 10 // COUNT, minlength=10)).pvalue > 1e-4
    assert abs(np.corrcoef(partners, shares)[0, 1]) < 0.06


@pytest.mark.parametrize("alpha", [1e-300, 1e-9, 1e6])
def test_mixup_shares_of_extreme_alpha_are_from_0_to_1(alpha: float) -> None:
    shares = random_pairs(0, 0, 1000, alpha)[1]
    assert ((shares >= 0) & (shares <= 1)).all()
    assert abs(shares.mean() - 0.5) < 0.1


def test_mixup_pairs_differ_by_seed_epoch_and_sample() -> None:
    first = random_pairs(1, 1, 50, 0.4)
    for other in (random_pairs(2, 1, 50, 0.4), random_pairs(1, 2, 50, 0.4)):
        assert not np.array_equal(first[0], other[0])
        assert not np.array_equal(first[1], other[1])
    assert len(set(first[1])) == 50
    partners, shares = random_pairs(0, 0, 3, 1.0)  # written down once: an older run must go on with the same
    assert partners.tolist() == [1, 1, 2]
    assert shares.tolist() == pytest.approx([0.352689, 0.216693, 0.837397], abs=1e-6)


def test_mixup_commutes_with_normalisation() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.integers(0, 256, (2, 6, 4, 5, 3), dtype=np.uint8)
    shares = np.array([0, 1, 0.5, 0.25, 0.9, 1 / 3])
    found = mixed(one, other, shares)
    weights = shares[:, None, None, None]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, one * weights + other * (1 - weights), atol=1e-4)
    assert np.array_equal(found[:2], [other[0], one[1]])
    normalise = Preprocessing.of(Dataset(one, np.zeros(6, np.int64), ("0",))).normalise
    np.testing.assert_allclose(
        normalise(found), normalise(one) * weights + normalise(other) * (1 - weights), rtol=0, atol=1e-5
    )


def test_both_images_of_a_mixup_pair_are_augmented_samples() -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (7, 5, 6, 1), dtype=np.uint8), np.arange(7) * 3
    ways = {"ratio": 4, "shift": 1, "rotation": 30.0, "flip": True}
    plain, _ = Augmenter(Augment(**ways), Train(seed=1), (9.0,)).take(images, labels, np.arange(35), epoch=4)  # type: ignore[arg-type]
    indices = np.array([34, 0, 7, 7])
    found, targets = Augmenter(Augment(**ways, mixup=0.5), Train(seed=1), (9.0,)).take(images, labels, indices, 4)  # type: ignore[arg-type]
    partners, shares = (drawn[indices] for drawn in random_pairs(1, 4, 35, 0.5))
    assert isinstance(targets, Targets)
    assert np.array_equal(found, mixed(plain[indices], plain[partners], shares))
    assert targets.labels.tolist() == labels[indices % 7].tolist()
    assert targets.others.tolist() == labels[partners % 7].tolist()
    assert targets.shares.tolist() == shares.tolist()
