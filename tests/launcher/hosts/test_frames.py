"""Frames between head and agents: any bytes, however the engine cuts and tags them."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.hosts.frames import ALL, LINE, Decoder, Frame, TaggedDecoder, encode

EVERY_BYTE = bytes(range(256)) * 20
BODIES = [EVERY_BYTE, b"", b"\x1d" * 3000, b"[1,2]<stdout>:x\n" * 99, b"line\r\n\x1f" * 500, b"\n"]


def decoded(decoder: Decoder | TaggedDecoder, data: bytes, step: int) -> list[Frame]:
    found: list[Frame] = []
    for at in range(0, len(data), step):
        found += decoder.feed(data[at : at + step])
    decoder.finish()
    return found


def tagged(streams: dict[int, bytes], seed: int, after: bytes = b"") -> bytes:
    """Mix streams as mpirun --tag-output does: a tag before each chunk and after each LF within one."""
    rng, out, left = random.Random(seed), b"", dict(streams)
    while left:
        rank = rng.choice(list(left))
        size = rng.randint(1, 4095)
        chunk, left[rank] = left[rank][:size], left[rank][size:]
        tag = b"[63311,%d]<stdout>:" % rank + after
        out += tag + chunk[:-1].replace(b"\n", b"\n" + tag) + chunk[-1:]
        if not left[rank]:
            del left[rank]
    return out


@pytest.mark.parametrize("most", [200, LINE, 32768])
@pytest.mark.parametrize("data", BODIES)
def test_bytes_arrive_as_they_were_sent_in_lines_that_are_short_enough(data: bytes, most: int) -> None:
    frame = Frame(3, "log", ([1, "o", 17, 0], data))
    lines = encode(frame, most)
    assert max(map(len, lines)) <= most
    assert all(line.count(b"\n") == 1 for line in lines)
    assert decoded(Decoder(pytest.fail), b"".join(lines), 777) == [frame]


@pytest.mark.parametrize("after", [b"", b" "], ids=["Open MPI 4", "Open MPI 5"])
@pytest.mark.parametrize("data", [*BODIES, b" "])
def test_chunks_that_mpirun_tags_are_joined_again(data: bytes, after: bytes) -> None:
    frames = [Frame(rank, "file", ({"path": "a"}, data * 9 + b"%d" % rank)) for rank in range(4)]
    stream = tagged({frame.host: b"".join(encode(frame, 4000)) for frame in frames}, len(data), after)
    for step in (1, 701):
        assert sorted(decoded(TaggedDecoder(pytest.fail, after), stream, step)) == frames


def test_a_long_message_is_deflated_and_comes_whole() -> None:
    body = {"table": ["192.168.1.1"] * 20000}
    lines = encode(Frame(ALL, "order", body))
    assert sum(map(len, lines)) < 4000
    assert decoded(Decoder(pytest.fail), b"".join(lines), 100) == [Frame(ALL, "order", body)]


@pytest.mark.parametrize(
    "kind, most, deflated", [("log", LINE, True), ("log", 1 << 16, False), ("file", LINE, False)]
)
def test_a_long_log_is_deflated_in_short_lines_unless_that_makes_it_longer(
    kind: str, most: int, deflated: bool
) -> None:
    text, dense = b"step 12 loss 1.25\n" * 2000, os.urandom(20000)
    for data, shorter in ((text, deflated), (dense, False)):
        frame = Frame(1, kind, ({"path": "a"}, data))
        lines = b"".join(encode(frame, most))
        assert (len(lines) < len(data)) == shorter
        assert decoded(Decoder(pytest.fail), lines, 777) == [frame]


def test_parts_of_two_hosts_and_of_two_kinds_may_be_mixed() -> None:
    one, two = Frame(0, "end", ["a" * 900, "é" * 900]), Frame(1, "end", ["b" * 1900])
    log = Frame(0, "log", ([0, "o", 1, 0], b"x" * 3000))
    lines = [encode(frame) for frame in (one, two, log)]
    mixed = [line for row in zip(*(found[:-1] for found in lines)) for line in row]
    rest = [line for found in lines for line in found[len(mixed) // 3 :]]
    assert sorted(decoded(Decoder(pytest.fail), b"".join(mixed + rest), 50)) == sorted([one, log, two])


def test_what_is_no_frame_is_passed_on() -> None:
    noise: list[bytes] = []
    frame = Frame(2, "pong", {"n": 1})
    stream = b"srun: error: node2\nhello " + encode(frame)[0] + b"\x1bN 1 pong . {\x1e\n\x1bN x\x1e\nlast"
    assert decoded(Decoder(noise.append), stream, 7) == [frame]
    words = [b"srun: error: node2", b"hello ", b"\x1bN 1 pong . {\x1e", b"\x1bN x\x1e", b"last"]
    assert noise == words


@given(st.binary(max_size=400), st.integers(1, 50))
def test_any_bytes_in_a_stream_break_nothing(junk: bytes, step: int) -> None:
    noise: list[bytes] = []
    frame = Frame(1, "say", {"text": "x"})
    stream = b"\n" + junk + b"\n" + encode(frame)[0]
    assert decoded(Decoder(noise.append), stream, step)[-1:] == [frame]
    decoded(TaggedDecoder(noise.append), junk, step)
