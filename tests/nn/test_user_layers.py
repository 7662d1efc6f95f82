"""Layers that a user's script defines: sent to workers without the file, kept in checkpoints, digested for resume."""

import doctest
import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import numpy as np
import pytest

import cnnpar
from cnnpar import Layer, Workspace, register
from cnnpar.cli import commands, console
from cnnpar.errors import InputError, RunError
from cnnpar.nn.layers import LAYERS, base
from cnnpar.nn.layers.base import Parameter
from cnnpar.nn.network import Network
from cnnpar.nn.shapes import Array, Shape
from cnnpar.nn.user_layers import user_layer_digests
from tests.helpers.limits import HANGING
from tests.helpers.tiny_runs import ROOT, write_csv

FACTOR = 2.0
HEAD: list[dict[str, Any]] = [{"type": "flatten"}, {"type": "dense", "units": 5}]


@pytest.fixture(autouse=True)
def restored_registry() -> Iterator[None]:
    """Restore the registry of layers after each test."""
    with patch.dict(LAYERS):
        yield


class Doubled(Layer, frozen=True, tag="doubled"):
    """Its input, times two."""

    times: float = FACTOR

    def forward(self, x: Array, work: Workspace) -> Array:
        return x * x.dtype.type(self.times)

    def backward(self, dy: Array, work: Workspace) -> Array:
        return dy * dy.dtype.type(self.times)


def tables(folder: Path, layers: list[dict[str, Any]], epochs: int = 2) -> dict[str, Any]:
    csv = write_csv(folder / "train.csv")
    return {
        "data": {"train": str(csv), "test": str(csv)},
        "model": {"layers": [*HEAD, *layers, {"type": "dense"}]},
        "train": {"epochs": epochs, "batch_size": 8, "microbatch": 4},
        "schedule": {"type": "constant"},
        "engine": {"workers": 0},
    }


def test_docstring_example_of_register_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (example,) = doctest.DocTestFinder(recurse=False).find(base.register, globs={"__name__": "example"})
    assert len(example.examples) == 6
    assert doctest.DocTestRunner().run(example).failed == 0


@pytest.mark.filterwarnings("ignore:.* are known by heart")
def test_checkpoint_with_a_user_layer_needs_its_registration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    register(Doubled)
    result = cnnpar.train(tables(tmp_path, [{"type": "doubled"}]), run_dir=tmp_path / "run")
    images = np.zeros((3, 8, 8), np.uint8)
    expected = result.model.predict(images)
    both = [(commands.test_app, "--from-path"), (commands.app, "inspect")]
    for app, word in both:
        assert console.run(app, [word, str(tmp_path / "run")]) == 0
    capsys.readouterr()

    del LAYERS["doubled"]
    words = (
        r"layer 3: unknown type 'doubled'; types are .*; one of your own must be registered first: in Python, import"
    )
    with pytest.raises(InputError, match=words):
        _ = cnnpar.load(tmp_path / "run").predict(images)
    for app, word in both:
        assert console.run(app, [word, str(tmp_path / "run")]) == 2
        err = capsys.readouterr().err
        assert "model.json: $.payload.network: layer 3: unknown type 'doubled'" in err
        assert err.count("\n") == 1

    register(Doubled)
    np.testing.assert_array_equal(cnnpar.load(tmp_path / "run").predict(images), expected)


def made(tag: object) -> type[Layer]:
    metaclass: Any = type(Layer)
    cls: type[Layer] = metaclass("Other", (Layer,), {"__module__": __name__}, tag=tag)
    return cls


def test_layer_tag_is_a_unique_word_and_can_be_redefined() -> None:
    def define(number: int) -> type[Layer]:
        class Again(Layer, frozen=True, tag="again"):
            times: int = number

        return register(Again)

    assert define(1) is not define(2) is LAYERS["again"]
    with pytest.raises(ValueError, match=r"'again' is registered already: .*Again of tests"):
        register(made("again"))
    for tag in (3, "", "a b", "é", "a\n"):
        with pytest.raises(ValueError, match="the tag of a layer is a word"):
            register(made(tag))


MODULE = """
import os
import numpy as np
from cnnpar import Layer, Parameter, register

assert "OF_THE_SCRIPT" in os.environ, "a worker has imported this file"
EPSILON = {epsilon}

def smooth(x):
    return np.sqrt(x * x + np.float32(EPSILON))

class Named(Layer):
    def output_shape(self, shape):
        return super().output_shape(shape)

@register
class Magnitude(Named, tag="magnitude"):
    kind = "magnitude"
    power: int = 1
    factors: tuple[float, ...] = (1.0,)

    def __post_init__(self):
        assert self.power == 1

    def output_shape(self, shape):
        return super().output_shape(shape)

    def parameters(self, shape):
        return {{"scale": Parameter(shape, "ones")}}

    @staticmethod
    def slope(x):
        return x / smooth(x)

    def forward(self, x, work):
        return work.p["scale"] * smooth(x)

    def backward(self, dy, work):
        np.sum(dy * smooth(work.x), axis=0, out=work.g["scale"])
        return dy * work.p["scale"] * self.slope(work.x)
"""

SCRIPT = """
import json
import sys
import cnnpar
from cnnpar import Layer, register
import magnitude

def half(x):
    return x / 2

@register
class Half(Layer, tag="half"):
    kind = "half"

    def forward(self, x, work):
        assert x.dtype == "float32"
        return half(x)

    def backward(self, dy, work):
        return half(dy)

found = []
for number, engine in enumerate(json.loads(sys.argv[2])):
    config = {**json.loads(sys.argv[1]), "engine": engine}
    found.append(cnnpar.train(config, run_dir=f"run{number}").weights_sha256)
print(json.dumps(found))
"""


def run(script: Path, *arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, script.name, *map(json.dumps, arguments)],
        cwd=script.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OF_THE_SCRIPT": "1", **environment},
        capture_output=True,
        text=True,
        timeout=HANGING,
    )


@pytest.mark.slow
@pytest.mark.usefixtures("in_time")
def test_workers_run_user_layers_without_having_their_files(tmp_path: Path, ray_address: str) -> None:
    (tmp_path / "magnitude.py").write_text(MODULE.format(epsilon=1e-3))
    (tmp_path / "script.py").write_text(SCRIPT)
    inner = [{"type": "magnitude", "factors": [1.0, 2.0]}, {"type": "half"}]
    config = tables(tmp_path, [{"type": "half"}, {"type": "residual", "layers": inner}])
    engines = [{"workers": 0}, {"workers": 2}, {"workers": 2, "transport": "ray"}]
    done = run(tmp_path / "script.py", config, engines, RAY_ADDRESS=ray_address)
    assert done.returncode == 0, done.stderr
    (digest,) = {*json.loads(done.stdout)}
    assert len(digest) == 64
    fingerprint = json.loads((tmp_path / "run1" / "model.json").read_text())["payload"]["fingerprint"]
    assert {name for name in fingerprint if name.startswith("layer ")} == {"layer half", "layer magnitude"}


RESUMED = """
import json
import sys
import cnnpar
import magnitude
try:
    print(cnnpar.train(json.loads(sys.argv[1]), run_dir="run", resume="auto").weights_sha256)
except cnnpar.errors.InputError as error:
    print(error)
"""


@pytest.mark.slow
def test_resume_is_refused_only_if_a_user_layer_changed(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(RESUMED)

    def trained(epochs: int, module: str) -> str:
        (tmp_path / "magnitude.py").write_text(module)
        done = run(script, tables(tmp_path, [{"type": "magnitude"}], epochs))
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    module = MODULE.format(epsilon=1e-3)
    first = trained(1, module)
    assert len(first) == 64
    words = "cannot resume: a layer of yours, which has changed, would compute other bits (layer magnitude: "
    assert words in trained(2, MODULE.format(epsilon=1e-2))  # a constant that a function names that a method names
    assert words in trained(2, module.replace("return x / smooth", "return 2 * x / smooth"))
    assert len(trained(2, f"{module}\n\ndef unused():\n    return 3\n")) == 64


def test_layer_without_source_has_the_digest_of_its_bytecode() -> None:
    def digest(body: str) -> str:
        names: dict[str, Any] = {"Layer": Layer, "__name__": "interactive"}
        exec(textwrap.dedent(body), names)  # as in a session, of which no file is left
        (found,) = user_layer_digests([names["Own"]()]).values()
        return found

    body = """
    half = lambda x: x / {number}
    class Own(Layer, frozen=True, tag="own"):
        def forward(self, x, work):
            return half(x)
    """
    assert digest(body.format(number=2)) == digest("\n\n\n" + body.format(number=2)) != digest(body.format(number=3))


def test_only_user_layers_have_digests_and_must_be_picklable() -> None:
    pytest.importorskip("ray")
    import threading

    from cnnpar.parallel.on_ray.pickling import pickle_work

    network = Network.from_tables([*HEAD, {"type": "relu"}, {"type": "dense"}], (8, 8, 1), 3)
    assert user_layer_digests(network.layers) == {}

    lock = threading.Lock()

    class Locked(Layer, frozen=True, tag="locked"):
        def forward(self, x: Array, work: Workspace) -> Array:
            with lock:
                return x

    with pytest.raises(InputError, match=r"cannot be sent to workers: cannot pickle '_thread.lock' object"):
        pickle_work(Locked())  # type: ignore[arg-type]  # as a part of a work


def test_layer_pickled_by_value_keeps_its_fields_and_methods() -> None:
    pytest.importorskip("ray")
    from cnnpar.parallel.on_ray.pickling import pickle_work, unpickle_work

    class Kept(Layer, frozen=True, tag="kept"):
        first: int
        second: list[int] = msgspec.field(default_factory=list)

        @property
        def sum(self) -> int:
            return self.first + super().products((1,))

    sent: Any = unpickle_work(pickle_work(Kept(first=3, name="a")))  # type: ignore[arg-type]
    assert type(sent) is not Kept
    assert issubclass(type(sent), Layer)
    assert (sent.first, sent.second, sent.name, sent.sum) == (3, [], "a", 3)
    assert msgspec.to_builtins(sent) == msgspec.to_builtins(Kept(first=3, name="a"))
    anew: Any = type(sent)
    assert anew(first=1) != sent == anew(first=3, name="a")
    with pytest.raises(AttributeError):
        sent.first = 4


def test_constants_that_a_layer_uses_are_part_of_its_digest() -> None:
    def made(factor: float, kind: str) -> Layer:
        table, listed = np.array([factor]), [factor]

        class Kept(Layer, frozen=True, tag="kept"):
            """Multiplies by a constant of an array, a list, or a default argument."""

            def forward(self, x: Array, work: Workspace, by: float = factor if kind == "default" else 1.0) -> Array:
                del work
                return x * by * (table[0] if kind == "array" else 1.0) * (listed[0] if kind == "list" else 1.0)

        return Kept()

    for kind in ("array", "list", "default"):
        digests = [user_layer_digests([made(factor, kind)])["layer kept"] for factor in (1.0, 1.0, 3.0)]
        assert digests[0] == digests[1] != digests[2]


def test_layer_that_does_not_fill_a_gradient_is_named(tmp_path: Path) -> None:
    @register
    class Idle(Layer, frozen=True, tag="idle"):
        """Adds a bias, of which the backward pass computes no gradient."""

        kind = "idle"

        def parameters(self, shape: Shape) -> dict[str, Parameter]:
            return {"bias": Parameter(shape)}

        def forward(self, x: Array, work: Workspace) -> Array:
            return x + work.p["bias"]

        def backward(self, dy: Array, work: Workspace) -> Array | None:
            del work
            return dy

    with pytest.raises(RunError, match=r"idle1: its backward pass did not fill work.g\['bias'\]"):
        cnnpar.train(tables(tmp_path, [{"type": "idle"}]), run_dir=tmp_path / "run")


@pytest.mark.parametrize(
    ("forward", "backward", "words"),
    [
        (
            lambda x: x[:, 1:],
            lambda dy: dy,
            r"wrong1: its forward pass gave float32 \(4, 4\); by output_shape it is .*5\)",
        ),
        (lambda _: None, lambda dy: dy, "wrong1: its forward pass gave NoneType"),
        (lambda x: x.astype(np.float64), lambda dy: dy, r"gave float64 \(4, 5\); by output_shape it is float32"),
        (
            lambda x: x * 1,
            lambda _: None,
            r"wrong1: its backward pass gave NoneType; by the input it is float32 \(4, 5\)",
        ),
    ],
)
def test_layer_with_wrong_output_shape_or_dtype_is_named(
    tmp_path: Path, forward: Any, backward: Any, words: str
) -> None:
    @register
    class Wrong(Layer, frozen=True, tag="wrong"):
        """Runs the passes that the test's parameters give."""

        kind = "wrong"

        def forward(self, x: Array, work: Workspace) -> Array:
            del work
            return forward(x)  # type: ignore[no-any-return]

        def backward(self, dy: Array, work: Workspace) -> Array | None:
            del work
            return backward(dy)  # type: ignore[no-any-return]

    with pytest.raises(RunError, match=words):
        cnnpar.train(tables(tmp_path, [{"type": "wrong"}]), run_dir=tmp_path / "run")


def test_faulty_layer_fails_before_anything_is_started(tmp_path: Path) -> None:
    @register
    class Faulty(Layer, frozen=True, tag="faulty"):
        """Asks for a parameter that it does not have."""

        def forward(self, x: Array, work: Workspace) -> Array:
            return x / work.p["scale"]

    wanted = tables(tmp_path, [{"type": "faulty"}])
    with pytest.raises(KeyError, match="scale"):
        cnnpar.train({**wanted, "engine": {"workers": 2, "address": "127.0.0.1:1"}}, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("thing", [int, 3, "layer", Layer(), lambda: None, None])
def test_only_layer_classes_can_be_registered(thing: Any) -> None:
    with pytest.raises(TypeError, match=r"^register takes a class derived from cnnpar\.Layer, not "):
        register(thing)


def test_a_layer_without_a_pass_is_named(tmp_path: Path) -> None:
    @register
    class Idle(Layer, frozen=True, tag="idle"):
        """Has neither pass."""

    with pytest.raises(NotImplementedError, match=r"^the layer class \S*Idle has no method `forward\(self, x, work\)`"):
        cnnpar.train(tables(tmp_path, [{"type": "idle"}]), run_dir=tmp_path / "run")

    @register
    class Halfway(Layer, frozen=True, tag="halfway"):
        """Has one pass."""

        def forward(self, x: Array, work: Workspace) -> Array:
            return x

    with pytest.raises(NotImplementedError, match=r"^the layer class \S*Halfway has no method `backward"):
        cnnpar.train(tables(tmp_path, [{"type": "dense", "units": 3}, {"type": "halfway"}]), run_dir=tmp_path / "run")


@pytest.mark.parametrize("wrong", ["forward", "backward", "input"])
def test_layer_that_writes_to_shared_arrays_is_stopped(wrong: str) -> None:
    @register
    class Scaled(Layer, frozen=True, tag="scaled"):
        """Passes views on, and writes to the array that `wrong` names."""

        def forward(self, x: Array, work: Workspace) -> Array:
            if wrong == "forward":
                x *= 2
            return x[:]

        def backward(self, dy: Array, work: Workspace) -> Array:
            if wrong == "backward":
                dy *= 2
            if wrong == "input":
                work.x[...] = 0
            return dy[:]

    layers = [*HEAD, {"type": "tanh"}, {"type": "scaled"}, {"type": "relu"}, {"type": "dense"}]
    network = Network.from_tables(layers, (4, 4, 1), 3)
    vector, out = network.init(0), np.empty(network.layout.size, np.float32)
    images, labels = np.ones((2, 4, 4, 1), np.float32), np.array([0, 1])
    with pytest.raises(ValueError, match="read-only"):
        network.loss_and_gradient(vector, images, labels, None, out)
    wrong = "nothing"
    network.loss_and_gradient(vector, images, labels, None, out)
    found = out.copy()
    Network.from_tables([*layers[:3], *layers[4:]], (4, 4, 1), 3).loss_and_gradient(vector, images, labels, None, out)
    assert found.tobytes() == out.tobytes()


def test_error_of_a_nested_layer_gives_its_path(tmp_path: Path) -> None:
    @register
    class Narrow(Layer, frozen=True, tag="narrow"):
        """Gives fewer features than output_shape says."""

        kind = "narrow"

        def forward(self, x: Array, work: Workspace) -> Array:
            del work
            return x[:, 1:]

    for branch, name in (("layers", "narrow1"), ("shortcut", "shortcut.narrow1")):
        blocks = {"layers": [{"type": "relu"}], branch: [{"type": "narrow"}]}
        block = {"type": "residual", "layers": [{"type": "residual", **blocks}]}
        with pytest.raises(RunError, match=rf"^residual1\.residual1\.{name}: its forward pass gave"):
            cnnpar.train(tables(tmp_path, [block]), run_dir=tmp_path / branch)
