"""The sketch beside exact quantiles and beside the DDSketch library."""

from __future__ import annotations

import json
import math
import random

import pytest
from ddsketch import DDSketch
from hypothesis import given
from hypothesis import strategies as st

from seatrace.runtime.sketch import Sketch

QUANTILES = (0.0, 0.01, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0)
VALUES = st.lists(
    st.one_of(
        st.floats(1e-9, 1e9),
        st.floats(-1e6, -1e-6),
        st.just(0.0),
        st.integers(1, 1000).map(float),
    ),
    min_size=1,
    max_size=300,
)


def exact(values: list[float], q: float) -> float:
    return sorted(values)[math.floor(q * (len(values) - 1))]


def sketch_of(values: list[float], **options: float) -> Sketch:
    made = Sketch(**options)  # type: ignore[arg-type]
    for value in values:
        made.add(value)
    return made


@given(VALUES, st.sampled_from([0.001, 0.01, 0.05]))
def test_a_quantile_is_as_near_as_promised(values: list[float], accuracy: float) -> None:
    sketch = sketch_of(values, accuracy=accuracy)
    for q in QUANTILES:
        found, true = sketch.quantile(q), exact(values, q)
        assert found is not None
        assert abs(found - true) <= accuracy * abs(true) * (1 + 1e-9)


@given(VALUES)
def test_it_answers_as_ddsketch_does(values: list[float]) -> None:
    ours, theirs = sketch_of(values), DDSketch(0.01)
    for value in values:
        theirs.add(value)
    for q in QUANTILES:
        found, other, true = ours.quantile(q), theirs.get_quantile_value(q), exact(values, q)
        assert found is not None
        assert abs(found - other) <= 0.0201 * abs(true) + 1e-12


@given(VALUES, VALUES, VALUES)
def test_merged_sketches_are_the_sketch_of_all(one: list[float], two: list[float], three: list[float]) -> None:
    whole, parts = sketch_of([*one, *two, *three]), [sketch_of(each) for each in (one, two, three)]
    merged = parts[2].copy()
    merged.merge(parts[0])
    merged.merge(parts[1])
    assert merged.quantiles(QUANTILES) == whole.quantiles(QUANTILES)
    assert (merged.count, merged.min, merged.max) == (whole.count, whole.min, whole.max)
    assert merged.sum == pytest.approx(whole.sum)
    assert parts[2].count == len(three), "the one that was merged from is as it was"


@given(VALUES)
def test_it_travels_as_json(values: list[float]) -> None:
    sketch = sketch_of([*values, math.nan])
    again = Sketch.from_dict(json.loads(json.dumps(sketch.to_dict())))
    assert again.quantiles(QUANTILES) == sketch.quantiles(QUANTILES)
    assert again.to_dict() == sketch.to_dict()


def test_two_hundred_thousand_latencies_stay_small() -> None:
    rng = random.Random(7)
    values = [
        rng.lognormvariate(-0.5, 0.6) if rng.random() < 0.8 else rng.lognormvariate(2, 0.4) for _ in range(200_000)
    ]
    sketch = sketch_of(values)
    assert len(sketch) < 1000
    for q in (0.5, 0.9, 0.95, 0.99, 0.999):
        assert sketch.quantile(q) == pytest.approx(exact(values, q), rel=0.01)


def test_beyond_its_buckets_the_largest_stay_exact() -> None:
    values = [1.05**exponent for exponent in range(2000)]
    sketch = sketch_of(values, max_buckets=256)
    assert len(sketch) <= 256
    assert sketch.count == 2000
    for q in (0.95, 0.99, 1.0):
        assert sketch.quantile(q) == pytest.approx(exact(values, q), rel=0.01)
    assert sketch.quantile(0.0) == 1.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_counted_apart(value: float) -> None:
    sketch = sketch_of([1.0, value, 3.0])
    assert (sketch.count, sketch.invalid, sketch.sum, sketch.max) == (2, 1, 4.0, 3.0)


@pytest.mark.parametrize("value", [5e-324, 1e-301, -1e-301, 1.7e308, -1.7e308, 0.0, -0.0])
def test_the_ends_of_the_scale(value: float) -> None:
    sketch = sketch_of([value] * 3)
    assert sketch.quantile(0.5) == value


def test_of_nothing_there_is_no_quantile() -> None:
    sketch = Sketch()
    assert sketch.quantile(0.5) is None
    assert sketch.mean is None
    assert Sketch.from_dict(sketch.to_dict()).count == 0


def test_numbers_out_of_range_are_refused() -> None:
    for accuracy in (0, 1, -0.1, math.nan):
        with pytest.raises(ValueError, match="accuracy"):
            Sketch(accuracy)
    with pytest.raises(ValueError, match="max_buckets"):
        Sketch(max_buckets=0)
    for q in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="quantile"):
            Sketch().quantile(q)
    with pytest.raises(ValueError, match=r"accuracy 0\.01, got one of 0\.02"):
        Sketch(0.01).merge(Sketch(0.02))
