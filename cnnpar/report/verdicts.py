"""Words on the answers of models that are compared: which one is best, and whether a difference may be chance."""

from collections.abc import Iterable, Iterator

from cnnpar.report.comparison import Comparison, Pair, Seeds, Side
from cnnpar.report.intervals import CONFIDENCE, as_percent, as_points

_UNLIKELY = 0.05  # probability below which a difference is hardly chance
_CHANCE = {True: "hardly chance", False: "possibly chance"}


def verdicts(found: Comparison) -> Iterator[str]:
    """Yield a line for the most accurate model of three or more, two for each pair, and one for several seeds."""
    first, sides = found.runs[0], {side.name: side for side in found.runs}
    tested = [pair for pair in found.pairs if pair.chance is not None]
    if len(tested) > 1:
        yield _best(found.runs)
    for pair in tested:
        other = sides[pair.other]
        if pair.only_first_right == pair.only_other_right == 0:
            yield f"{first.name} and {other.name} are right on the same images"
        else:
            yield from _of_pair(first, other, pair, len(tested))
    if found.seeds is not None:
        yield _of_seeds(found.seeds, len(found.runs))


def _best(runs: Iterable[Side]) -> str:
    """Name the models of the highest accuracy."""
    answered = [side for side in runs if side.accuracy is not None]
    highest = max(side.accuracy or 0 for side in answered)
    best = [side for side in answered if side.accuracy == highest]
    return f"highest accuracy: {', '.join(side.name for side in best)}{_doubt(best)}"


def _of_pair(first: Side, other: Side, pair: Pair, tests: int) -> Iterator[str]:
    """Yield how the answers of two models differ, and by how much their accuracies do."""
    assert pair.only_first_right is not None  # which are there together
    assert pair.only_other_right is not None
    assert pair.chance is not None
    assert pair.adjusted_chance is not None
    assert pair.difference is not None
    assert pair.interval is not None
    adjusted = f", which count as {_of_hundred(pair.adjusted_chance)} among {tests} comparisons (Holm)"
    yield (
        f"{other.name} is right on {_images(pair.only_other_right)} that {first.name} gets wrong, and wrong on "
        f"{pair.only_first_right:,} that {first.name} gets right: {_verdict(pair)}{_doubt([first, other])}. "
        f"Equally good models differ so much, or more, in {_of_hundred(pair.chance)} comparisons "
        f"(McNemar's exact test){adjusted if tests > 1 else ''}"
    )
    yield (
        f"accuracy of {other.name} less that of {first.name}: {100 * pair.difference:+.2f} points "
        f"({CONFIDENCE:.0%} interval {as_points(pair.interval)}, Bonett and Price)"
    )


def _verdict(pair: Pair) -> str:
    """Say whether a difference may be chance, by the adjusted test and by the interval, which may disagree a little."""
    assert pair.chance is not None
    assert pair.adjusted_chance is not None
    assert pair.interval is not None
    by_test = pair.adjusted_chance < _UNLIKELY
    by_interval = not pair.interval[0] <= 0 <= pair.interval[1]
    if by_test == by_interval:
        return "it is hardly chance" if by_test else "it may be chance"
    if by_test != (pair.chance < _UNLIKELY):
        return "it would hardly be chance if it were the only comparison, and may be chance among several"
    return f"a borderline case, {_CHANCE[by_test]} by the test and {_CHANCE[by_interval]} by the interval"


def _doubt(sides: Iterable[Side]) -> str:
    """Say which models know the images that they answer, or may know them."""
    knowing = [side.name for side in sides if side.trained_on_images]
    perhaps = [side.name for side in sides if side.trained_on_images is None]
    doubts = []
    if knowing:
        doubts.append(f"{' and '.join(knowing)} {'was' if len(knowing) == 1 else 'were'} trained on these images")
    if perhaps:
        doubts.append(f"{' and '.join(perhaps)} may have been trained on {'them' if knowing else 'these images'}")
    return f", but {', and '.join(doubts)}" if doubts else ""


def _of_seeds(seeds: Seeds, runs: int) -> str:
    return (
        f"{runs} runs that differ only in the seed: accuracy {seeds.mean:.2%} on average (standard deviation "
        f"{seeds.standard_deviation:.2%}; {CONFIDENCE:.0%} interval of the mean {as_percent(seeds.interval)}, by "
        "Student's t)"
    )


def _images(count: int) -> str:
    return f"{count:,} image{'s' * (count != 1)}"


def _of_hundred(chance: float) -> str:
    """Return a probability as "34 of 100", "5.2 of 100" or "3 of 10,000", or as a bound where it is smaller."""
    if chance >= 0.1:
        return f"{100 * chance:.0f} of 100"
    for whole in (100, 1000, 10_000):
        if chance >= 1 / whole:
            return f"{chance * whole:.2g} of {whole:,}"
    return "fewer than 1 of 10,000"
