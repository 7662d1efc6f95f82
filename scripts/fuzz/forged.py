"""Forged checkpoints: small genuine ones, mutations of them with the digests made right, and a check of the reader.

Used by scripts/fuzz/checkpoint.py and by the tests.
"""

import base64
import hashlib
import json
import random
from functools import cache
from typing import Any

import msgspec
import numpy as np

from cnnpar import optim
from cnnpar.config.resolve import resolve
from cnnpar.config.sections import Config
from cnnpar.data.preprocessing import Preprocessing
from cnnpar.errors import InputError
from cnnpar.nn.network import Network
from cnnpar.nn.sums import Sums
from cnnpar.report.inspection import describe
from cnnpar.storage.checkpoint import Payload, decode, encode
from cnnpar.storage.packing import pack, unpack
from cnnpar.text import harmless
from cnnpar.training.state import TrainState

LAYERS = (
    {"type": "conv2d", "channels": 2, "kernel": [3, 2]},
    {"type": "leakyrelu"},
    {"type": "maxpool2d", "size": 2},
    {"type": "flatten"},
    {"type": "dense"},
)
LONGEST_MESSAGE = 1000


class Object(list[list[Any]]):
    """A JSON object as its pairs, in which a key may come more than once."""


class Literal(str):
    """JSON text as it is, valid or not."""


# Values that have broken readers of JSON before.
LITERALS = [
    *("null", "true", "false", "[]", "{}", '""', "0", "-0", "-0.0", "1", "-1", "1.0", "1e0", "0.1", "01", "+1", "0x1"),
    *("2147483648", "9007199254740992", "9007199254740993", "9223372036854775808", "18446744073709551616", "1" * 30),
    *("NaN", "Infinity", "-Infinity", "1e308", "1e309", "-1e999", "1e-999", "3.5e38", "1" + "0" * 400, "9" * 10_000),
    *("0." + "1" * 10_000, '"\\u0000"', '"\\ud800"', '"\\udc00\\ud800"', '"\\u001b[31m"', '"\\u202e"', '"\\u009b2J"'),
    *('"\ud800"', '"\x00"', '"\x1b[2J"', '"\u00e4"', '"../../etc/passwd"', '"' + "x" * 40_000 + '"', '"a","a"'),
    *('"A"', '"AA=="', '"AB=="', '"AAAA"', '"AAAAAA=="', '" AAAA"', '"AA\\nAA"', '"===="', '"AAAAgD8="', '"AAD/fw=="'),
    *(
        "[" * 20 + "]" * 20,
        "[" * 5000 + "]" * 5000,
        '{"a":' * 40 + "0" + "}" * 40,
        '{"a":1,"a":2}',
        '{"\\u0061":1,"a":2}',
    ),
    *(
        "[[],[]]",
        "[1,2,3]",
        "[8,8,1]",
        "[1000000,1000000,3]",
        "[4503599627370496,4503599627370496]",
        "[0,0,0]",
        "[0.5]",
    ),
    *("[" + "0," * 3000 + "0]", "[" + "{}," * 3000 + "{}]", "[" + '"a",' * 3000 + '"b"]', '{"type":"dense"}'),
    *('{"type":"conv2d","channels":1,"padding":1000000}', '{"type":"maxpool2d","size":1,"stride":9007199254740992}'),
]


KEYS = ["", "type", "data", "name", "x" * 500, Literal('"na\\u006de"'), Literal('"\\u001b]0;\\u0007"')]


@cache
def genuine() -> tuple[bytes, ...]:
    """Make checkpoints as the program writes them: each kind of arrays, with and without an optimizer's state."""
    return tuple(
        _encoded(tables)
        for tables in (
            {"optimizer": {"type": "adam"}},
            {"optimizer": {"type": "sgd"}, "checkpoint": {"arrays": "decimal"}},
            {"optimizer": {"type": "sgd", "momentum": 0.0, "nesterov": False}, "schedule": {"type": "cosine"}},
        )
    )


def _encoded(tables: dict[str, Any]) -> bytes:
    """Encode the checkpoint of a run in the middle of its third epoch."""
    config: Config = resolve({"model": {"layers": LAYERS}, "train": {"seed": 7, "batch_size": 8}, **tables})
    preprocessing = Preprocessing((4, 4, 1), (100.0,), (50.0,), ("no", "y\u00e4"))
    network = Network.from_tables(config.model.layers, (4, 4, 1), 2)
    state = TrainState(network.init(7), optim.init(config.optimizer, network.layout.trained))
    for vector in state.optimizer.values():
        vector[:] = network.init(8)
    for step in range(5):
        state.advance(Sums(1.7 / 3, 2, 8), 0.5 * step)
        if step % 2:
            state.finish_epoch(Sums(0.1, step, 4), 0.5 * step + 0.25)
    return encode(pack(config, network, preprocessing, state, {"numpy": "2"}, "sha256:00"))


def signed(body: bytes) -> bytes:
    """Make a file of a payload, with the right digest."""
    return b'{"sha256":"%s","payload":%s}' % (hashlib.sha256(body).hexdigest().encode(), body)


def forge(chance: random.Random, content: bytes = b"") -> bytes:
    """Mutate a file, or a genuine one if it cannot be read; usually with the right digests."""
    payload = payload_of(content) or payload_of(chance.choice(genuine()))
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        _mutate(payload, chance)
    if chance.random() < 0.5:
        _sign_weights(payload)
    body = text_of(payload).encode(errors="surrogatepass")
    if chance.random() < 0.1:
        body = damaged(chance, body)
    if chance.random() < 0.95:
        body = signed(body)
        return damaged(chance, body) if chance.random() < 0.03 else body
    envelope = Object(
        [["sha256", hashlib.sha256(body).hexdigest()], ["payload", Literal(body.decode(errors="replace"))]]
    )
    _mutate(envelope, chance)
    return text_of(envelope).encode(errors="surrogatepass")


def damaged(chance: random.Random, content: bytes) -> bytes:
    """Cut out, change, put in or double some bytes."""
    start, length = chance.randrange(len(content) + 1), chance.choice((1, 1, 2, 8, 300))
    cut = content[start : start + length]
    put = chance.choice(
        (b"", cut[::-1], cut + cut, b'"', b"}", b"]", b",", b" ", b"\x00", b"\xef\xbb\xbf", b"\xff", b"9")
    )
    end = chance.choice((start + length, start + length, len(content)))
    return content[:start] + put + content[end:]


def judge(content: bytes) -> bool:
    """Tell whether the reader accepts a file. Raises AssertionError, or the reader's error, where that is wrong."""
    loaded = read(content)
    if loaded is not None:
        check(content, loaded)
    return loaded is not None


def read(content: bytes) -> Payload | None:
    """Read a file; None where it is refused as it should be, by an InputError of one plain line."""
    try:
        payload = decode(content, "f")
        unpack(payload, "f")
    except InputError as error:
        text = str(error)
        assert text.startswith("f: "), f"an error that does not name the file: {text[:200]!r}"
        assert len(text) <= LONGEST_MESSAGE, f"an error of {len(text)} letters"
        assert "\n" not in text, f"an error of two lines: {text!r}"
        assert harmless(text) == text, f"an error that drives the terminal: {text!r}"
        return None
    return payload


def check(content: bytes, payload: Payload) -> None:
    """Raise AssertionError unless an accepted file is a checkpoint that the program could have written.

    That is: saved and read again it is the same, every reader of JSON finds the same in it, and it can be shown.
    """
    json.loads(content, object_pairs_hook=_unique)
    network, state = unpack(payload, "f")
    again = pack(payload.config, network, payload.preprocessing, state, payload.fingerprint, payload.data_fingerprint)
    assert again == msgspec.structs.replace(payload, network=again.network), "accepted, and not the same when saved"
    assert decode(encode(again), "f") == again, "accepted, and not the same when saved and read again"
    describe(payload, network, state)


def _unique(pairs: list[tuple[str, Any]]) -> None:
    keys = [key for key, _ in pairs]
    assert len(set(keys)) == len(keys), f"accepted with a key twice: {keys}"


def payload_of(content: bytes) -> Object | None:
    """Find the payload of a file; None when there is none, or it is empty."""
    try:
        file = json.loads(content, object_pairs_hook=lambda pairs: Object(map(list, pairs)))
    except (ValueError, RecursionError):
        return None
    values = [value for key, value in file if key == "payload"] if isinstance(file, Object) else []
    return values[-1] if values and isinstance(values[-1], Object) and values[-1] else None


def text_of(node: Any) -> str:
    """Write a node as JSON, or as something like it."""
    if isinstance(node, Literal):
        return node
    if isinstance(node, Object):
        return "{" + ",".join(f"{text_of(key)}:{text_of(value)}" for key, value in node) + "}"
    if isinstance(node, list):
        return "[" + ",".join(map(text_of, node)) + "]"
    return json.dumps(node)


def _mutate(tree: Any, chance: random.Random) -> None:
    """Change one place of a tree, a deep one as likely as a shallow one."""
    node = tree
    while inner := [part for part in _parts(node) if isinstance(part, list) and part]:
        if chance.random() < 0.3:
            break
        node = chance.choice(inner)
    if not node:
        return
    place, is_object = chance.randrange(len(node)), isinstance(node, Object)
    value = _parts(node)[place]
    match chance.choice(
        ("delete", "double", "rename", "swap", "replace", "replace", "replace", "vary", "vary", "vary")
    ):
        case "delete":
            del node[place]
            return
        case "double":  # the same value again, or another one under the same key
            again = value if chance.random() < 0.4 else Literal(chance.choice(LITERALS))
            most = 500 if len(text_of(again)) < 200 else 1
            copies = [[node[place][0], again] if is_object else again] * chance.choice((1, 1, 2, most))
            node[chance.randrange(len(node)) : 0] = copies
            return
        case "rename" if is_object:
            node[place][0] = chance.choice([*KEYS, chance.choice(node)[0]])
            return
        case "swap":
            other = chance.randrange(len(node))
            new = _parts(node)[other]
            _put(node, other, value)
        case "vary":
            new = _varied(value, chance)
        case _:
            new = chance.choice(
                (Literal(chance.choice(LITERALS)), [value], Object([["a", value]]), _piece(tree, chance))
            )
    _put(node, place, new)


def _parts(node: Any) -> list[Any]:
    return [pair[1] for pair in node] if isinstance(node, Object) else node


def _put(node: Any, place: int, value: Any) -> None:
    if isinstance(node, Object):
        node[place][1] = value
    else:
        node[place] = value


def _piece(tree: Any, chance: random.Random) -> Literal:
    """Copy some part of the tree, or all of it."""
    node = tree
    while isinstance(node, list) and node and chance.random() < 0.8:
        node = chance.choice(_parts(node))
    return Literal(text_of(node))


def _varied(value: Any, chance: random.Random) -> Any:
    """Change a value a little."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return chance.choice((value + 1, value - 1, -value, 2 * value, value // 2, value * 10**300))
    if isinstance(value, float):
        return chance.choice((value + 1, value - 1, -value, 2 * value, value / 2, value * 1e300))
    if isinstance(value, str) and value and not isinstance(value, Literal):
        place = chance.randrange(len(value))
        letter = chance.choice(("", "A", "=", "\u00e4", " ", "\n", "\x1b", value[place] * 2))
        return value[:place] + letter + value[place + 1 :]
    return Literal(chance.choice(LITERALS))


def _sign_weights(payload: Any) -> None:
    """Set `weights_sha256` to the parameters' digest, where they can be read."""
    try:
        tree: Any = msgspec.json.decode(text_of(payload))
        data = [array["data"] for array in tree["parameters"]]
        with np.errstate(over="ignore"):
            parts = [base64.b64decode(d) if isinstance(d, str) else np.array(d, "<f4").tobytes() for d in data]
        state = dict(map(tuple, payload))["state"]
        pair = next(pair for pair in state if pair[0] == "weights_sha256")
        pair[1] = hashlib.sha256(b"".join(parts)).hexdigest()
    except (msgspec.DecodeError, ValueError, LookupError, TypeError, StopIteration, RecursionError, OverflowError):
        pass
