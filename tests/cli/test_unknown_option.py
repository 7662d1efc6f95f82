"""Settings that are typed as options: each is led to the way to change it, and that way changes it."""

import re
import shlex

import pytest

from cnnpar.cli import commands
from cnnpar.cli.unknown_option import ways_to_set
from cnnpar.config.resolve import parse_assignment, setting_names, settings_named
from tests.helpers.commands import call

KNOWN = {name for argument in commands.train_app.assemble_argument_collection() for name in argument.names}


@pytest.mark.parametrize("typed", ["--{}", "--{}=7"])
def test_each_setting_is_led_to_the_way_to_change_it(typed: str) -> None:
    names = {name.replace("_", "-") for name in setting_names()}
    assert len(names) > 70
    for name in names:
        if f"--{name}" in KNOWN:
            continue
        words = [typed.format(name), "7"]
        found = ways_to_set(words[0], words, KNOWN)
        _, _, ways = found.rstrip("?").partition("; did you mean ")
        settings = settings_named(name)
        assert len(settings) == len(ways.split(" or -")) > 0, found
        for way in re.sub(r" \(with type [a-z0-9_ ]+\)", "", ways).split(" or "):
            option, value = shlex.split(way)
            if option == "--set":
                given = parse_assignment(value)
                assert f"{given.section}.{given.key}" in settings
                assert given.value == 7
            else:
                assert (option in KNOWN, value) == (True, "7")


def test_a_command_without_settings_is_led_to_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("cnnpar-test", "--learning-rate", 1) == 2
    assert "did you mean" not in capsys.readouterr().err
    assert call("cnnpar", "lr-find", "--momentum", "0.5") == 2
    assert "--set optimizer.momentum=0.5 (with type sgd or rmsprop or lars)" in capsys.readouterr().err
