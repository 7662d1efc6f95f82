"""The environment that Ray reads: quiet and private by default, and what the user has set stays."""

from pathlib import Path

import pytest

from cnnpar.config.sections import Engine
from cnnpar.parallel.on_ray.environment import meant_address, ray_environment
from tests.helpers.commands import command


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no variables of Ray."""
    for name in ray_environment(Engine()):
        if name.startswith("RAY_"):
            monkeypatch.delenv(name, raising=False)


def test_no_call_attaches_to_a_ray_that_was_not_asked_for() -> None:
    assert ray_environment(Engine())["RAY_ENABLE_AUTO_CONNECT"] == "0"
    assert ray_environment(Engine(address="auto"))["RAY_ENABLE_AUTO_CONNECT"] == "0"


def test_a_ray_of_our_own_has_a_new_token_each_time() -> None:
    first, second = (ray_environment(Engine()) for _ in range(2))
    assert first["RAY_AUTH_MODE"] == second["RAY_AUTH_MODE"] == "token"
    assert len(first["RAY_AUTH_TOKEN"]) == 64
    assert first["RAY_AUTH_TOKEN"] != second["RAY_AUTH_TOKEN"]


def test_a_standing_cluster_keeps_its_own_rules() -> None:
    assert (
        not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_worker_niceness"} & ray_environment(Engine(address="auto")).keys()
    )


def test_variables_of_the_user_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    made = ray_environment(Engine())
    assert made["RAY_USAGE_STATS_ENABLED"] == "1"
    assert made["RAY_AUTH_MODE"] == "disabled"
    assert "RAY_AUTH_TOKEN" not in made


@pytest.mark.parametrize(
    ("setting", "variable", "meant"),
    [("", "", ""), ("", "local", ""), ("", "a:1", "a:1"), ("local", "a:1", ""), ("b:2", "a:1", "b:2")],
)
def test_the_setting_goes_before_ray_address(
    monkeypatch: pytest.MonkeyPatch, setting: str, variable: str, meant: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", variable)
    assert meant_address(Engine(address=setting)) == meant


def test_ray_may_take_as_long_to_start_as_the_run_waits() -> None:
    assert ray_environment(Engine(start_timeout=300.0))["RAY_raylet_start_wait_time_s"] == "300"
    assert ray_environment(Engine(start_timeout=0.5))["RAY_raylet_start_wait_time_s"] == "30"


def test_ray_keeps_its_docstrings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    monkeypatch.setenv("PYTHONHASHSEED", "3")
    made = ray_environment(Engine())
    assert "PYTHONOPTIMIZE" not in made
    assert made["PYTHONHASHSEED"] == "3"


@pytest.mark.slow
def test_a_run_without_docstrings_starts_its_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONOPTIMIZE", "2")
    done = command("cnnpar-train", "--epochs", 1, "--workers", 1, "--set", "engine.fallback=false", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "1 worker, direct transport" in done.stdout
