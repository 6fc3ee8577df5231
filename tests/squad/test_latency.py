"""The lines about a prediction's speed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squad.answers.latency import percentiles, summary, throughput


def test_a_hundred_batches_have_the_obvious_percentiles() -> None:
    seconds = [n / 1000.0 for n in range(100, 0, -1)]
    assert percentiles(seconds) == {50: 0.050, 90: 0.090, 95: 0.095, 99: 0.099, 100: 0.100}


@given(st.lists(st.floats(0.001, 9), min_size=1))
def test_percentiles_rise_and_end_at_the_slowest(seconds: list) -> None:
    values = list(percentiles(seconds).values())
    assert values == sorted(values) and values[-1] == max(seconds)


def test_throughput_leaves_the_slow_start_out() -> None:
    assert throughput([10.0] + [0.5] * 99, 400) == pytest.approx(8.0)


def test_throughput_counts_real_features_and_not_the_filling_of_the_last_batch() -> None:
    assert throughput([1.0, 1.0], 9) == pytest.approx(9.0 / 2)


def test_a_single_batch_has_a_summary() -> None:
    lines = summary([0.25], 3, 1.0, 8, 384, "fp32")
    assert "Total Inference Time = 1.00 for Sentences = 3" in lines
    assert "Latency Confidence Level 50 (ms) = 250.00" in lines
    assert "Latency Average (ms) = 250.00" in lines
    assert "Throughput Average (sentences/sec) = 12.00" in lines
    assert "Batch size = 8" in lines and "Sequence Length = 384" in lines and "Precision = fp32" in lines


def test_no_batches_have_no_summary() -> None:
    assert summary([], 0, 1.0, 8, 384, "fp32") == []
