"""`cnnpar compare`: what differs between runs, against the models' own answers and scipy.stats."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import cnnpar
from tests.helpers import tiny_runs
from tests.helpers.commands import call


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train runs of other seeds, lengths and optimizers on the same data, into folders of one."""
    here = tmp_path_factory.mktemp("runs")
    csv, test = tiny_runs.write_csv(here / "train.csv"), tiny_runs.write_csv(here / "test.csv", 60, seed=9)
    constant: dict[str, dict[str, Any]] = {"data": {"test": str(test)}, "schedule": {"type": "constant"}}
    changed: dict[str, dict[str, dict[str, Any]]] = {
        "a": {},
        "longer": {"train": {"epochs": 4}},
        "seed1": {"train": {"seed": 1}},
        "seed2": {"train": {"seed": 2}},
        "adam": {"optimizer": {"type": "adam"}},
        "decimal": {"checkpoint": {"arrays": "decimal"}},
        "scipy": {"model": {"kernels": "scipy"}},
        "wide": {"model": {"layers": [{**tiny_runs.LAYERS[0], "channels": 3}, *tiny_runs.LAYERS[1:]]}},
        "deep": {"model": {"layers": [*tiny_runs.LAYERS[:2], *tiny_runs.LAYERS]}},
        "test": {"data": {"train": str(test), "test": ""}},
    }
    for name, changes in changed.items():
        tiny_runs.train(tiny_runs.settings(csv, **{**constant, **changes}), here / name)
    return here


@pytest.fixture
def compared(runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Compare runs by their names; return the JSON, after a check that the text has 80 columns."""
    monkeypatch.chdir(runs)

    def compare(*words: str) -> tuple[dict[str, Any], str]:
        assert call("cnnpar", "compare", *words, "--json") == 0
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        assert call("cnnpar", "compare", *words) == 0
        text = capsys.readouterr().out
        assert max(map(len, text.splitlines())) <= 80
        return found, " ".join(text.split())

    return compare


def test_answers_are_compared_by_the_exact_test(compared: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found, text = compared("a", "adam")
    assert call("cnnpar", "test", "adam", "--json") == 0
    tested = json.loads(capsys.readouterr().out)
    assert {**tested, **found["runs"][1]} == {**found["runs"][1], **tested}, "another accuracy, or interval, than there"
    rows = np.loadtxt("test.csv", delimiter=",", dtype=np.int64)
    images, labels = rows[:, 1:].astype(np.uint8).reshape(-1, 8, 8), rows[:, 0]
    one, two = (cnnpar.load(name).predict(images) == labels for name in ("a", "adam"))
    assert [run["correct"] for run in found["runs"]] == [one.sum(), two.sum()]
    (pair,) = found["pairs"]
    lost, won = int((one & ~two).sum()), int((two & ~one).sum())
    assert (pair["only_first_right"], pair["only_other_right"], lost + won > 0) == (lost, won, True)
    assert pair["chance"] == stats.binomtest(lost, lost + won).pvalue
    assert pair["difference"] == pytest.approx(two.mean() - one.mean())
    assert pair["interval"][0] <= pair["difference"] <= pair["interval"][1]
    assert f"B is right on {won:,} image" in text
    assert ("it is hardly chance" in text) == (pair["chance"] < 0.05)
    assert pair["adjusted_chance"] == pair["chance"]


def test_settings_that_differ_are_listed(compared: Any) -> None:
    found, text = compared("a", "adam")
    settings = {row["setting"]: row["values"] for row in found["settings"]}
    assert settings["optimizer.type"] == ["sgd", "adam"]
    assert settings["optimizer.momentum"] == [0.9, None]
    assert "optimizer.momentum 0.9 -" in text
    found, text = compared("a", "decimal")
    assert [(row["setting"], row["changes_weights"]) for row in found["settings"]] == [("checkpoint.arrays", False)]
    assert "* does not change the weights" in text
    assert "A and B have the same weights, to the bit" in text
    assert "A and B are right on the same images" in text


def test_a_longer_run_is_the_same_as_far_as_the_shorter_one(compared: Any) -> None:
    (pair,) = compared("a", "longer")[0]["pairs"]
    assert (pair["same_weights"], pair["equal_step"], pair["unequal_step"]) == (False, 15, None)


def test_runs_of_other_seeds_differ_from_the_first_step_on(compared: Any) -> None:
    found, text = compared("a", "seed1")
    (pair,) = found["pairs"]
    assert (pair["equal_step"], pair["unequal_step"], found["seeds"]) == (None, 1, None)
    assert "the weights of A and B differ after step 1, the first that both have recorded" in text


def test_several_seeds_have_a_mean_and_students_interval(compared: Any) -> None:
    found, text = compared("a", "seed1", "seed2")
    accuracies = [run["accuracy"] for run in found["runs"]]
    assert found["seeds"]["mean"] == pytest.approx(np.mean(accuracies))
    wanted = stats.t.interval(0.95, 2, np.mean(accuracies), stats.sem(accuracies))
    assert found["seeds"]["interval"] == pytest.approx(np.clip(wanted, 0, 1))
    assert "3 runs that differ only in the seed" in text
    assert compared("a", "seed1", "adam")[0]["seeds"] is None
    small, large = sorted(found["pairs"], key=lambda pair: pair["chance"])
    assert small["adjusted_chance"] == min(1, 2 * small["chance"])
    assert large["adjusted_chance"] == max(small["adjusted_chance"], large["chance"])


def test_no_run_counts_twice_in_the_mean_of_seeds(compared: Any, runs: Path, tmp_path: Path) -> None:
    for again in ("a", "a/best.json"):
        found, text = compared("a", again, "seed1")
        assert found["seeds"] is None
        assert "no mean over the seeds: they are 0, 0, 1, and each may occur once" in text
    shutil.copy(runs / "seed1" / "model.prev.json", tmp_path)
    earlier = str(tmp_path / "model.prev.json")
    found, text = compared("a", "seed2", earlier)
    steps = [run["step"] for run in found["runs"]]
    assert (found["seeds"], steps[:2], steps[2] < 15) == (None, [15, 15], True)
    assert f"no mean over the seeds: the checkpoints are of steps 15, 15, {steps[2]}, not of the same one" in text


def test_other_networks_are_told_by_their_size(compared: Any) -> None:
    found, text = compared("a", "deep")
    assert (found["same_types"], found["pairs"][0]["same_shapes"]) == (False, False)
    assert any(row["setting"].startswith("model.layers") for row in found["settings"])
    assert "model.layers" not in text
    for name, side in zip("AB", found["runs"], strict=True):
        network = cnnpar.load(side["checkpoint"]).network
        assert (side["layers"], side["parameters"]) == (len(network.layers), network.layout.trained)
        assert f"network of {name}: {side['layers']} layers, {side['parameters']} parameters" in text
    assert "the weights of A and B have other shapes, and cannot be compared" in text


def test_like_networks_differ_by_settings_of_layers(compared: Any) -> None:
    found, text = compared("a", "wide")
    assert (found["same_types"], found["pairs"][0]["same_shapes"]) == (True, False)
    assert "model.layers[0].channels 2 3" in text
    assert "network of" not in text


def test_many_settings_of_layers_are_cut_short(compared: Any, runs: Path, tmp_path: Path) -> None:
    for name, slope in (("one", 0.1), ("two", 0.2)):
        layers = [*[{"type": "leakyrelu", "slope": slope}] * 15, *tiny_runs.LAYERS]
        tiny_runs.train(tiny_runs.settings(runs / "train.csv", model={"layers": layers}), tmp_path / name)
    found, text = compared(str(tmp_path / "one"), str(tmp_path / "two"))
    assert len(found["settings"]) == 15
    assert text.count("].slope 0.1 0.2") == 12
    assert "and 3 more settings of layers; --json has all" in text


def test_a_library_that_a_setting_chose_is_no_other_program(compared: Any) -> None:
    found, text = compared("a", "scipy")
    assert [row["setting"] for row in found["settings"]] == ["model.kernels"]
    assert "all were trained on the same data, by the same program on like machines" in text


def test_a_model_that_knows_the_images_is_told_of(compared: Any) -> None:
    for words, knowing in ((("a", "test"), ["B"]), (("seed1", "a", "--test-data", "train.csv"), ["A", "B"])):
        found, text = compared(*words)
        assert [run["name"] for run in found["runs"] if run["trained_on_images"]] == knowing
        notes = [f"{name} was trained on these images: they are its training data" for name in knowing]
        assert found["notes"] == notes
        assert text.index(notes[0]) < text.index("accuracy 95% interval")
        assert (
            f", but {' and '.join(knowing)} {'was' if len(knowing) == 1 else 'were'} trained on these images." in text
        )


def test_a_checkpoint_alone_is_compared_by_its_losses(runs: Path, compared: Any, tmp_path: Path) -> None:
    shutil.copy(runs / "adam" / "model.json", tmp_path / "alone.json")
    shutil.copy(runs / "longer" / "model.json", tmp_path / "longer.json")
    (pair,) = compared(str(tmp_path / "longer.json"), str(tmp_path / "alone.json"))[0]["pairs"]
    assert (pair["equal_step"], pair["unequal_step"], pair["unequal_epoch"]) == (None, None, 1)


def test_metrics_of_another_run_are_not_believed(runs: Path, compared: Any, tmp_path: Path) -> None:
    shutil.copy(runs / "a" / "model.json", tmp_path)
    shutil.copy(runs / "adam" / "metrics.jsonl", tmp_path)
    (pair,) = compared("a", str(tmp_path))[0]["pairs"]
    assert (pair["same_weights"], pair["equal_step"]) == (True, 15)
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 3}\n\xff\n[[[[\n' + (runs / "a" / "metrics.jsonl").read_bytes())
    assert compared("a", str(tmp_path))[0]["pairs"] == [{**pair, "other": "B"}]


def test_models_of_other_classes_do_not_answer(runs: Path, compared: Any, tmp_path: Path) -> None:
    csv = tiny_runs.write_csv(tmp_path / "two.csv", 30)
    rows = np.loadtxt(csv, delimiter=",", dtype=np.int64)
    np.savetxt(csv, rows[rows[:, 0] < 2], "%d", delimiter=",")
    tiny_runs.train(tiny_runs.settings(csv), tmp_path / "two")
    found, text = compared("a", str(tmp_path / "two"))
    assert [run["correct"] is None for run in found["runs"]] == [False, True]
    assert "B does not answer: its images or classes are not those of A" in text
    assert found["pairs"][0]["same_data"] is False


def test_without_test_data_the_validation_part_is_answered(compared: Any, tmp_path: Path) -> None:
    csv = tiny_runs.write_csv(tmp_path / "train.csv", 50)
    tiny_runs.train(tiny_runs.settings(csv), tmp_path / "one")
    found, _ = compared(str(tmp_path / "one"), "a")
    assert (found["samples"], found["samples_of"]) == (5, f"validation part of {csv}")
    assert found["notes"] == ["B may have been trained on these images: its data are not those of A"]
    assert [run["trained_on_images"] for run in found["runs"]] == [False, None]
    csv.unlink()
    found, text = compared(str(tmp_path / "one"), "a")
    assert found["samples"] is None
    assert "no answers are compared" in text
    assert compared(str(tmp_path / "one"), "a", "--test-data", "test.csv")[0]["samples"] == 60


def test_one_run_alone_is_refused(compared: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("cnnpar", "compare", "a") == 2
    assert "which runs? Name two or more" in capsys.readouterr().err
    assert call("cnnpar", "compare", "a", "gone") == 2
    assert "gone: cannot read the checkpoint" in capsys.readouterr().err
