"""Helpers of several test files: made data and runs, checkpoints, commands, workers without Ray, virtual time."""

import pytest

pytest.register_assert_rewrite("tests.helpers.checkpoints", "tests.helpers.made_runs", "tests.helpers.run_files")
