"""Memory and cores that this process may use, by made-up files of the system's."""

import os
from pathlib import Path

import pytest

from cnnpar.machine import available_memory, usable_cores

MB = 1 << 20
MANY = "1000000 1000"  # a thousand cores


def make(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a root folder in which the system says that 1000 MB are available."""
    make(tmp_path, {"proc/meminfo": f"MemTotal: 99999999 kB\nMemAvailable:    {1000 * 1024} kB\nHugePages_Total: 0\n"})
    return tmp_path


def in_group_of_version_2(root: Path, files: dict[str, str], path: str = "/a/b") -> None:
    make(root, {"proc/self/cgroup": f"0::{path}\n"})
    make(root, {f"sys/fs/cgroup/{name}": text for name, text in files.items()})


def test_without_groups_the_system_says_what_is_available(root: Path) -> None:
    assert available_memory(root) == 1000 * MB
    assert usable_cores(root) == len(os.sched_getaffinity(0))


def test_the_tightest_group_up_the_tree_counts(root: Path) -> None:
    in_group_of_version_2(
        root,
        {
            "a/b/memory.max": "max\n",
            "a/b/memory.current": f"{50 * MB}\n",
            "a/memory.max": f"{500 * MB}\n",
            "a/memory.current": f"{300 * MB}\n",
            "a/memory.stat": f"anon 7\nactive_file {20 * MB}\ninactive_file {30 * MB}\n",
            "a/b/cpu.max": "max 100000\n",
            "a/cpu.max": "50000 100000\n",
        },
    )
    assert available_memory(root) == 250 * MB
    assert usable_cores(root) == 1


def test_groups_of_version_1_count(root: Path) -> None:
    make(
        root,
        {
            "proc/self/cgroup": "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n1:name=systemd:/x\n0::/\n",
            "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": f"{400 * MB}\n",
            "sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes": f"{100 * MB}\n",
            "sys/fs/cgroup/memory/docker/x/memory.stat": f"total_inactive_file {30 * MB}\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/cpu/docker/x/cpu.cfs_quota_us": "100000\n",
            "sys/fs/cgroup/cpu/docker/x/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    )
    assert available_memory(root) == 330 * MB
    assert usable_cores(root) == 1


@pytest.mark.parametrize("path", ["/../../elsewhere", "/not/mounted/here"])
def test_a_group_that_the_container_does_not_see_is_its_root(root: Path, path: str) -> None:
    in_group_of_version_2(root, {"memory.max": f"{100 * MB}", "memory.current": f"{60 * MB}"}, path)
    assert available_memory(root) == 40 * MB


def test_a_group_over_its_limit_has_nothing_left(root: Path) -> None:
    in_group_of_version_2(root, {"memory.max": "1000", "memory.current": "5000"}, "/")
    assert available_memory(root) == 0


def test_a_part_of_a_core_is_rounded_up(root: Path) -> None:
    every = len(os.sched_getaffinity(0))
    for quota, cores in ((f"{MANY}", every), ("1000 100000", 1), ("110000 100000", min(2, every))):
        in_group_of_version_2(root, {"cpu.max": quota}, "/")
        assert usable_cores(root) == cores


def test_the_real_system_gives_plausible_numbers() -> None:
    assert 0 < available_memory() < 1 << 50
    assert 0 < usable_cores() <= len(os.sched_getaffinity(0))
