"""The programs `cnnpar`, `cnnpar-train` and `cnnpar-test`: their commands, and the help of each.

A command is a file beside this one; `cnnpar-train` is `cnnpar train`, `cnnpar-test` is `cnnpar test`. Heavy modules are
imported by the command that needs them, so that `--help` answers at once.
"""

from typing import Any

from cyclopts import App

from cnnpar.cli.about import install_completion, schema, versions
from cnnpar.cli.compare import compare
from cnnpar.cli.cv import cv
from cnnpar.cli.export import export
from cnnpar.cli.import_weights import import_weights
from cnnpar.cli.inspect import inspect
from cnnpar.cli.kernels import kernels
from cnnpar.cli.lr_find import lr_find
from cnnpar.cli.predict import predict
from cnnpar.cli.report import report
from cnnpar.cli.test import evaluate
from cnnpar.cli.train import train

_TRAIN_EXAMPLES = """Examples:

  {train} train.csv test.csv --epochs 10
  {train} photos/ --size 64,64 --channels 3 --optimizer adam --lr 0.001
  {train} --resume runs/train-1 --epochs 20"""

_TEST_EXAMPLES = """Examples:

  {test} runs/train-1
  {test} runs/train-1 other.csv --by-class
  {test} model.json --data mnist --json"""

_EXPORT_EXAMPLES = """Examples:

  cnnpar export runs/train-1 model.onnx
  cnnpar export runs/train-1/best.json weights.safetensors --layout torch
  cnnpar import weights.safetensors --like runs/train-1 --to back.json"""

_PREDICT_EXAMPLES = """Examples:

  cnnpar predict runs/photos-1 photo.jpg folder/ --top 3
  cnnpar predict runs/mnist-1 test.csv --out answers.csv
  cnnpar predict runs/mnist-1 test.csv --submission --out submission.csv
  cat photo.jpg | cnnpar predict runs/photos-1 -

FILE.csv has the columns input, class, probability; then class_2,
probability_2, ... by --top, or probability_NAME of each class by --proba."""

_EXAMPLES = """Examples:

  cnnpar train train.csv test.csv --epochs 10
  cnnpar test runs/train-1
  cnnpar predict runs/train-1 photo.jpg"""


def _app(name: str, examples: str, **more: Any) -> App:
    """Return an application whose help ends with examples."""
    return App(
        name=name,
        version=versions,
        help_format="plaintext",
        help_epilogue=examples,
        suppress_keyboard_interrupt=False,
        **more,
    )


app = _app(
    "cnnpar",
    _EXAMPLES,
    help="Trains convolutional networks in plain numpy on Ray: the same bits on any number of workers.",
)
app.command(train, help_epilogue=_TRAIN_EXAMPLES.format(train="cnnpar train"))
app.command(cv, help_epilogue="")
app.command(evaluate, name="test", help_epilogue=_TEST_EXAMPLES.format(test="cnnpar test"))
app.command(predict, help_epilogue=_PREDICT_EXAMPLES)
app.command(export, help_epilogue=_EXPORT_EXAMPLES)
app.command(import_weights, name="import", help_epilogue="")
app.command(inspect, help_epilogue="")
app.command(compare, help_epilogue="")
app.command(report, help_epilogue="")
app.command(lr_find, help_epilogue="")
app.command(kernels, help_epilogue="")
app.command(schema, help_epilogue="")
train_app = _app("cnnpar-train", _TRAIN_EXAMPLES.format(train="cnnpar-train"))
train_app.default(train)
test_app = _app("cnnpar-test", _TEST_EXAMPLES.format(test="cnnpar-test"))
test_app.default(evaluate)
app.command(install_completion((app, train_app, test_app)), name="--install-completion", help_epilogue="")
