"""The short form of scripts/chaos/run.py: 24 real faults, done to real runs, and the weights of an undisturbed one."""

import json
import subprocess
import sys

import pytest

from tests.helpers.tiny_runs import ROOT

WORKERS_AND_DRIVER = [
    "worker killed",
    "worker terminated",
    "worker stopped for a while",
    "all workers stopped for a while",
    "all workers killed",
    "driver killed",
    "driver killed as it saves",
    "driver: SIGTERM",
    "resumed with other workers",
    "run directory away for a while",
]
RAY_AND_FILES = [
    "worker killed as the run evaluates",
    "driver killed as it evaluates",
    "driver killed as it starts",
    "driver and control process killed",
    "control process killed",
    "Ray's dashboard agent killed",
    "Ray's raylet killed",
    "Ray's head killed",
    "Ray's monitor killed",
    "Ray killed as it starts",
    "run directory swapped",
    ".running stolen",
    "link or pipe while stopped",
    "cluster's head killed, back later",
]


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc")
@pytest.mark.parametrize("kinds", [WORKERS_AND_DRIVER, RAY_AND_FILES], ids=["workers", "ray"])
def test_real_faults_leave_the_weights_of_a_run_unchanged(kinds: list[str]) -> None:
    only = [word for kind in kinds for word in ("--only", kind)]
    script = [sys.executable, "-m", "scripts.chaos.run", "--faults", len(kinds), "--spacing", 150, *only, "--json"]
    done = subprocess.run(list(map(str, script)), cwd=ROOT, capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert results["wrong"] == []
    times, survived, same = (sum(row[key] for row in results["table"]) for key in ("count", "survived", "same_digest"))
    assert times == survived == same
    assert times >= len(kinds) - 2, done.stdout  # a run that is done before its last faults suffers no more of them
