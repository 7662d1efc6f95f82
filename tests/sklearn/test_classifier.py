"""`CNNClassifier`: scikit-learn's own checks, its model selection, its copies, and what wrong input is told."""

import importlib
import io
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cnnpar
from tests.helpers.tiny_runs import LAYERS

pytest.importorskip("sklearn")

from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import parametrize_with_checks

from cnnpar.sklearn import CNNClassifier


def samples(count: int = 60) -> tuple[Any, Any]:
    """Rows of 8 x 8 images with one bright row, whose place is the class; labels are names."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    images = rng.integers(0, 60, (count, 8, 8)).astype(np.float64)
    images[np.arange(count), 1 + 3 * labels - labels // 2] += 190
    return images.reshape(count, 64), np.array(["top", "middle", "end"])[labels]


def tiny(**changes: Any) -> CNNClassifier:
    return CNNClassifier(**{"layers": LAYERS, "epochs": 4, "batch_size": 8, **changes})


QUICK = ("dict_unchanged", "estimators_pickle", "fit2d_predict1d", "n_features_in", "no_attributes_set_in_init")


@pytest.mark.parametrize("check", QUICK)
def test_quick_checks_of_scikit_learn(check: str) -> None:
    getattr(estimator_checks, f"check_{check}")("CNNClassifier", tiny(layers=None))


@pytest.mark.slow
@parametrize_with_checks([CNNClassifier(epochs=20)])  # type: ignore[untyped-decorator, unused-ignore]
def test_scikit_learns_checks(estimator: Any, check: Any) -> None:
    check(estimator)


def test_a_fit_has_the_weights_of_a_run(tmp_path: Path) -> None:
    X, y = samples()
    config = {"augment": {"shift": 1}, "train": {"microbatch": 4}}
    found = tiny(config=config, random_state=7).fit(X, y)
    tables = {
        **config,
        "model": {"layers": LAYERS},
        "train": {"epochs": 4, "batch_size": 8, "seed": 7, "microbatch": 4},
        "data": {"validation": 0},
        "engine": {"workers": 0},
    }
    expected = cnnpar.train(tables, data=(X.reshape(-1, 8, 8).astype(np.float32), y), run_dir=tmp_path / "run")
    (tmp_path / "model.json").write_bytes(found.checkpoint_)
    model = cnnpar.load(tmp_path / "model.json")
    assert model.weights_sha256 == expected.weights_sha256
    assert model.class_names == ("end", "middle", "top")
    assert list(found.classes_) == ["end", "middle", "top"]
    assert found.score(X, y) == (np.array(model.class_names)[model.predict(X.reshape(-1, 8, 8))] == y).mean()
    np.testing.assert_array_equal(found.history_["train_loss"], [record.train_loss for record in model.history])


def test_a_fit_leaves_no_file_and_prints_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    tiny().fit(*samples())
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_rows_images_and_frames_are_the_same_samples() -> None:
    X, y = samples()
    wanted = tiny().fit(X, y).predict_proba(X)
    assert wanted.dtype == np.float64
    for same in (X.reshape(-1, 8, 8), X.reshape(-1, 8, 8, 1), X.astype(np.uint8), X.reshape(-1, 8, 8).tolist()):
        found = tiny().fit(same, y)
        assert found.n_features_in_ == 64
        np.testing.assert_array_equal(found.predict_proba(same), wanted)
        np.testing.assert_array_equal(found.predict_proba(X), wanted)
    np.testing.assert_array_equal(tiny(image_shape=(8, 8)).fit(X, y).predict_proba(X), wanted)


def test_a_copy_goes_through_the_bytes_of_the_checkpoint() -> None:
    joblib = pytest.importorskip("joblib")
    X, y = samples()
    fitted = tiny().fit(X, y)
    file = io.BytesIO()
    joblib.dump(fitted, file)
    assert fitted.checkpoint_ in file.getvalue()
    assert b"cnnpar.nn" not in file.getvalue()
    file.seek(0)
    np.testing.assert_array_equal(joblib.load(file).predict_proba(X), fitted.predict_proba(X))
    with pytest.raises(NotFittedError):
        clone(fitted).predict(X)
    state = fitted.__getstate__()
    damaged = state["checkpoint_"].replace(b'"epoch":4', b'"epoch":5')
    with pytest.raises(cnnpar.InputError, match=r"CNNClassifier\.checkpoint_: \$\.sha256 is not the digest"):
        CNNClassifier().__setstate__({**state, "checkpoint_": damaged})


def test_training_starts_with_the_weights_of_a_checkpoint(tmp_path: Path) -> None:
    X, y = samples()
    before = tiny().fit(X, y)
    (tmp_path / "before.json").write_bytes(before.checkpoint_)
    after = tiny(init_from=tmp_path / "before.json", epochs=1, learning_rate=1e-6).fit(X, y)
    np.testing.assert_allclose(after.predict_proba(X), before.predict_proba(X), atol=1e-3)


@pytest.mark.parametrize("features", [1, 2, 3, 7, 16, 50])
def test_the_default_network_takes_any_number_of_features(features: int) -> None:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, features))
    y = X[:, 0] > 0
    found = CNNClassifier(epochs=1).fit(X, y)
    assert found.image_shape_ == ((4, 4, 1) if features == 16 else (1, features, 1))
    assert found.predict(X).dtype == bool


def test_seeds_may_be_generators_and_decide_the_weights() -> None:
    X, y = samples()
    first, again, other = (tiny(random_state=np.random.RandomState(seed)).fit(X, y) for seed in (0, 0, 1))
    assert first.checkpoint_.partition(b'"parameters"')[2] != other.checkpoint_.partition(b'"parameters"')[2]
    np.testing.assert_array_equal(first.predict_proba(X), again.predict_proba(X))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning_rate": -1}, "^learning_rate=-1: expected a number above 0$"),
        ({"optimizer": "sdg"}, r"^optimizer='sdg': unknown value 'sdg' \(did you mean sgd\?\); allowed: sgd, adam, "),
        ({"layers": "resnet9"}, r"^layers: no preset 'resnet9' \(did you mean"),
        ({"layers": [{"type": "dens"}]}, "unknown type 'dens'"),
        (
            {"config": {"train": {"epochs": 3}}},
            "^config: train.epochs is the argument epochs; leave it out of config$",
        ),
        ({"config": {"data": {"name": "mnist"}}}, "^config: data.name is the argument X; leave it out of config$"),
        ({"optimizer": None}, "^optimizer=None: "),
        ({"epochs": None}, "^epochs=None: expected a whole number, not nothing$"),
        ({"config": {"train": 3}}, "^config: .* is no dictionary of dictionaries"),
        ({"image_shape": (8, 9)}, "^X has 64 features, and image_shape 8 x 9 x 1 takes 72$"),
        ({"image_shape": 64}, r"^image_shape is 64; expected \(height, width\) or \(height, width, channels\)$"),
        ({"image_shape": (8.5, 8)}, r"^image_shape is \(8.5, 8\); expected"),
        ({"init_from": "nowhere.json"}, "nowhere.json: cannot read the checkpoint"),
    ],
)
def test_wrong_parameters_are_a_line_that_names_them(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        tiny(**changes).fit(*samples())
    assert "\n" not in str(caught.value)


def test_wrong_samples_are_errors_of_a_line() -> None:
    X, y = samples()
    holes = X.copy()
    holes[3, 5] = np.nan
    wrong: list[tuple[Any, Any, str]] = [
        (holes, y, "Input X contains NaN"),
        (X[:, :, None, None, None], y, "^X has 5 dimensions; expected"),
        (X[:, :0].reshape(60, 8, 0), y, "0 feature"),
        (X, y[:-1], "inconsistent numbers of samples"),
        (X, np.full(60, "one"), "y holds one class only, 'one'"),
        (X, np.linspace(0, 1, 60), "Unknown label type: continuous"),
        (np.full((60, 64), "a"), y, "could not convert string to float"),
        (X * 1e30, y, "pixel"),
    ]
    for images, labels, words in wrong:
        with pytest.raises(ValueError, match=words):
            tiny().fit(images, labels)
    fitted = tiny().fit(X, y)
    with pytest.raises(ValueError, match=r"X has images of 4 x 16 x 1, and image_shape is 8 x 8 x 1"):
        fitted.predict(X.reshape(-1, 4, 16))
    with pytest.raises(ValueError, match="X has 63 features, but CNNClassifier is expecting 64"):
        fitted.predict(X[:, :63])


def test_a_failed_fit_leaves_no_model_of_other_classes() -> None:
    X, y = samples()
    model, others = tiny().fit(X, y), np.unique(y, return_inverse=True)[1] + 100
    with pytest.raises(ValueError, match="optimizer='bogus'"):
        model.set_params(optimizer="bogus").fit(X, others)
    with pytest.raises(NotFittedError):
        model.predict(X)
    assert {*model.set_params(optimizer="sgd").fit(X, others).predict(X)} <= {*others}


def test_labels_that_are_no_names_are_classes_too() -> None:
    X, y = samples()
    for odd in ("", "two\nlines", "\udcff"):
        labels = np.where(y == y[0], odd, "other").astype(object)
        model = tiny().fit(X, labels)
        assert {*model.predict(X)} <= {odd, "other"}
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).predict(X), model.predict(X))


def test_sample_weights_are_not_taken() -> None:
    with pytest.raises(TypeError, match="sample_weight"):
        tiny().fit(*samples(), sample_weight=np.ones(60))  # type: ignore[call-arg]


def test_settings_that_stand_for_parameters_are_named() -> None:
    found = tiny(optimizer="adam", config={"optimizer": {"beta1": 0.8}}).fit(*samples())
    assert re.search(rb'"type":"adam"[^}]*"beta1":0\.8', found.checkpoint_)


@pytest.mark.slow
def test_pipelines_and_model_selection_train_it() -> None:
    X, y = load_digits(return_X_y=True)
    X, y = X[:600], y[:600]
    folds = StratifiedKFold(3, shuffle=True, random_state=0)
    pipeline = make_pipeline(StandardScaler(), CNNClassifier(epochs=15))
    scores = cross_val_score(pipeline, X, y, cv=folds)
    assert scores.min() > 0.85
    grid = {"cnnclassifier__learning_rate": np.array([1e-5, 0.05])}
    search = GridSearchCV(pipeline, grid, n_jobs=2, cv=folds).fit(X, y)
    assert search.best_params_ == {"cnnclassifier__learning_rate": 0.05}
    assert search.best_score_ == scores.mean()  # in other processes, and the same to the last bit


def test_without_scikit_learn_a_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    monkeypatch.delitem(sys.modules, "cnnpar.sklearn")
    with pytest.raises(ImportError, match=r"^cnnpar\.sklearn needs .*: pip install 'cnnpar\[sklearn\]'$"):
        importlib.import_module("cnnpar.sklearn")
