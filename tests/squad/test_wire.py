"""Messages that the protocol buffers library reads back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squad.data import tf_example


@pytest.mark.parametrize(
    "number, octets",
    [
        (0, b"\x00"),
        (1, b"\x01"),
        (127, b"\x7f"),
        (128, b"\x80\x01"),
        (300, b"\xac\x02"),
        (1 << 40, b"\x80" * 5 + b"\x20"),
    ],
)
def test_known_numbers(number: int, octets: bytes) -> None:
    assert tf_example.pack_numbers(np.array([[number]])) == [octets]


@given(st.lists(st.lists(st.integers(0, 2**62), min_size=3, max_size=3), max_size=4))
def test_numbers_can_be_read_back(rows: list[list[int]]) -> None:
    packed = tf_example.pack_numbers(np.array(rows, np.int64).reshape(-1, 3))
    assert [decode(octets) for octets in packed] == rows


def decode(octets: bytes) -> list[int]:
    found, value, shift = [], 0, 0
    for octet in octets:
        value |= (octet & 0x7F) << shift
        shift += 7
        if octet < 0x80:
            found.append(value)
            value = shift = 0
    return found


def test_tensorflow_reads_a_message() -> None:
    tf = pytest.importorskip("tensorflow")
    lists = {"short": [5], "long": list(range(300)), "none": []}
    packed = {name: b"".join(tf_example.pack_numbers(np.array([v], np.int64))) for name, v in lists.items()}
    features = tf.train.Example.FromString(tf_example.encode(packed)).features.feature
    assert {name: list(feature.int64_list.value) for name, feature in features.items()} == lists
