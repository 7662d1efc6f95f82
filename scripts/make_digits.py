"""Makes cnnpar/data/digits.npz from scikit-learn's copy of the UCI digits.

`python scripts/make_digits.py` writes the same bytes each time; source and licence: cnnpar/data/digits.md.
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits  # type: ignore[import-untyped]

TARGET = Path(__file__).parents[1] / "cnnpar" / "data" / "digits.npz"


def main() -> None:
    digits = load_digits()
    images = digits.images.astype(np.uint8)  # (1797, 8, 8), counts of ink pixels in 4 x 4 blocks: 0..16
    assert (images == digits.images).all()
    np.savez_compressed(TARGET, images=images, labels=digits.target.astype(np.uint8))
    print(f"{TARGET}: {len(images)} images, {TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
