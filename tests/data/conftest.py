"""A cache of decoded data for a single test."""

from pathlib import Path

import pytest

from cnnpar.data.readers import cache


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is the cache during the test, in which sources of any size are kept."""
    monkeypatch.setenv("CNNPAR_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "_LEAST_BYTES", 0)
    return tmp_path / "cache"
