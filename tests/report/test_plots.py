"""`accuracy.png`: its curves and its frame, and how the file is replaced."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnpar.config.resolve import to_toml
from cnnpar.report.plots import draw_accuracy, frame
from cnnpar.training.state import EpochRecord
from tests.helpers.commands import command
from tests.helpers.pictures import TRAINING, VALIDATION, has_colour, pixels
from tests.helpers.tiny_runs import settings, write_csv


def record(epoch: int, train_accuracy: float, validation_accuracy: float | None = None) -> EpochRecord:
    return EpochRecord(epoch, 0.5, train_accuracy, None, validation_accuracy, 1.0)


def learning(epochs: int) -> list[EpochRecord]:
    return [record(n, 1 - 0.7 * 0.8**n, 0.98 - 0.7 * 0.8**n) for n in range(1, epochs + 1)]


@pytest.mark.parametrize("epochs", [1, 2, 30, 1000])
def test_both_curves_are_drawn_for_any_number_of_epochs(tmp_path: Path, epochs: int) -> None:
    path = tmp_path / "accuracy.png"
    draw_accuracy(learning(epochs), path, "digits")
    image = pixels(path)[80:]  # below the legend
    assert image.shape[1] >= 800
    assert has_colour(image, TRAINING)
    assert has_colour(image, VALIDATION)
    assert has_colour(image, (0, 0, 0))
    edges = [image[:, :4], image[:, -4:], image[-4:]]
    assert all((edge == 255).all() for edge in edges)  # nothing runs out of the picture


def test_without_validation_there_is_only_the_training_curve(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.png"
    draw_accuracy([record(1, 0.5), record(2, 0.7)], path, "digits")
    assert has_colour(pixels(path), TRAINING)
    assert not has_colour(pixels(path), VALIDATION)


def test_epochs_without_validation_are_left_out_of_its_curve(tmp_path: Path) -> None:
    history = [record(1, 0.5, None), record(2, 0.7, 0.6), record(3, 0.8, None), record(4, 0.9, 0.7)]
    draw_accuracy(history, tmp_path / "accuracy.png", "digits")
    assert has_colour(pixels(tmp_path / "accuracy.png"), VALIDATION)


def test_the_same_history_gives_the_same_file(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        draw_accuracy(learning(5), tmp_path / name, "digits")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_ring_is_where_the_run_found_its_best_epoch(tmp_path: Path) -> None:
    history = [record(1, 0.5, 0.6), record(2, 0.7, 0.9), record(3, 0.8, 0.8)]
    for best_epoch in (None, 2, 3):
        draw_accuracy(history, tmp_path / f"{best_epoch}.png", "digits", best_epoch)
    assert (tmp_path / "None.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    frames = [pixels(tmp_path / f"{epoch}.png")[80:-70, 95:] for epoch in (2, 3)]
    black = [np.flatnonzero((frame < 40).all(axis=2).any(axis=0)) for frame in frames]
    assert black[0].mean() < black[1].mean()  # further to the right


def test_a_title_may_hold_anything(tmp_path: Path) -> None:
    draw_accuracy(learning(2), tmp_path / "accuracy.png", "$\\frac{$ 5 _^ 中文 & <b>")


def test_a_run_draws_both_curves(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(to_toml(settings(write_csv(tmp_path / "train.csv"))))
    done = command("cnnpar-train", "--config", "tiny.toml", "--run-dir", "run", "--quiet", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    image = pixels(tmp_path / "run" / "accuracy.png")
    assert has_colour(image, TRAINING)
    assert has_colour(image, VALIDATION)


def test_the_old_picture_is_replaced_and_nothing_else_is_left(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.png"
    draw_accuracy(learning(1), path, "one")
    before = path.read_bytes()
    (tmp_path / ".accuracy.png.tmp").write_bytes(b"left by a crash")
    draw_accuracy(learning(9), path, "nine")
    assert path.read_bytes() != before
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_replacement_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "accuracy.png").mkdir()
    with pytest.raises(OSError, match="accuracy"):
        draw_accuracy(learning(2), tmp_path / "accuracy.png", "digits")
    assert [entry.name for entry in tmp_path.iterdir()] == ["accuracy.png"]


def test_a_picture_of_the_users_stays(tmp_path: Path) -> None:
    path = tmp_path / "accuracy.png"
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="is not of a run, and stays as it is"):
        draw_accuracy(learning(2), path, "A")
    assert path.read_bytes() == b"mine"


def test_a_missing_folder_is_an_error_of_the_system(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        draw_accuracy(learning(2), tmp_path / "gone" / "accuracy.png", "digits")


def test_an_empty_history_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no epoch"):
        draw_accuracy([], tmp_path / "accuracy.png", "digits")


def test_drawing_does_not_touch_pyplot(tmp_path: Path) -> None:
    draw_accuracy(learning(2), tmp_path / "accuracy.png", "digits")
    assert "matplotlib.pyplot" not in sys.modules


percents = st.lists(st.floats(0, 100), min_size=1, max_size=30)


@given(percents, percents)
def test_theframe_holds_later_epochs_and_ends_near_0_and_100(training: list[float], validation: list[float]) -> None:
    low, high = frame(list(enumerate(training, 1)), list(enumerate(validation, 1)))
    later = training[len(training) // 4 :] + validation[len(validation) // 4 :]
    assert low < min(later)
    assert max(training + validation) < high
    assert -3 < low < high < 103


def test_theframe_zooms_in_after_a_poor_start_only() -> None:
    poor_start = [(1, 10.0), *((n, 98 + 0.1 * n) for n in range(2, 13))]
    assert 97 < frame(poor_start)[0] < 98.4
    steady = [(n, 10 + 7.0 * n) for n in range(1, 13)]
    assert frame(steady)[0] < 17


def test_equal_values_do_not_make_an_emptyframe() -> None:
    low, high = frame([(1, 100.0)], [(1, 100.0)])
    assert low < 99.5
    assert 100 < high < 101
