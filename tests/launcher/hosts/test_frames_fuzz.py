"""Whatever bytes hosts send, however an engine cuts, mixes and tags them: frames come whole and in order."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.hosts.frames import ALL, Decoder, Frame, TaggedDecoder, encode

# Texts and bytes full of what marks, escapes and tags are made of.
MARKS = [b"\x1b", b"\x1bN ", b"\x1e\n", b"\x1e", b"\x1d", b"\x1f", b"\n", b"\r\n", b"\0", b"[1,2]<stdout>:",
         b"]<std", b"[", b"]", b"<stderr>:", b"\xff", b"srun: error: "]  # fmt: skip
DATA = st.lists(st.one_of(st.sampled_from(MARKS), st.binary(max_size=300)), max_size=30).map(b"".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | DATA.map(lambda data: data.decode("latin-1")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
KINDS = st.sampled_from(["event", "say", "end", "hello"])
FRAMES = st.one_of(
    st.builds(Frame, st.integers(ALL, 2047), KINDS, JSON),
    st.builds(
        lambda host, kind, size, data: Frame(host, kind, ([host, "o", size, 0], data * size)),
        st.integers(0, 3), st.sampled_from(["log", "file"]), st.integers(0, 9), DATA,
    ),
)  # fmt: skip
MOST = st.integers(200, 4000)
NOISE = st.binary(max_size=60).filter(lambda line: b"\x1bN " not in line)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut data into pieces of these sizes, again and again."""
    found, at, turn = [], 0, 0
    while at < len(data):
        size = cuts[turn % len(cuts)]
        found.append(data[at : at + size])
        at, turn = at + size, turn + 1
    return found


def of_hosts(frames: list[Frame]) -> dict[tuple[int, str], list[Any]]:
    """Return the bodies of each host and kind in their order: others may come in between."""
    found: dict[tuple[int, str], list[Any]] = defaultdict(list)
    for frame in frames:
        found[frame.host, frame.kind].append(frame.body)
    return dict(found)


CUTS = st.lists(st.integers(1, 5000), min_size=1, max_size=5)


@settings(deadline=None)
@given(st.lists(FRAMES, max_size=6), MOST, CUTS, st.lists(NOISE, max_size=5), st.randoms())
def test_frames_of_many_hosts_come_in_order_between_lines_of_others(
    frames: list[Frame], most: int, cuts: list[int], noise: list[bytes], rng: Any
) -> None:
    queues = defaultdict(list)
    for frame in frames:
        queues[frame.host].extend(encode(frame, most))
    streams = [*queues.values(), [b"".join(line.split(b"\n")) + b"\n" for line in noise]]
    mixed = []
    while any(streams):
        mixed.append(rng.choice([stream for stream in streams if stream]).pop(0))
    heard: list[bytes] = []
    decoder = Decoder(heard.append)
    found = [frame for piece in pieces(b"".join(mixed), cuts) for frame in decoder.feed(piece)]
    decoder.finish()
    assert of_hosts(found) == of_hosts(frames)
    assert heard == [text for text in (b"".join(line.split(b"\n")) for line in noise) if text.strip()]


@settings(deadline=None)
@given(st.lists(FRAMES, max_size=5), MOST, CUTS, CUTS, st.randoms())
def test_what_mpirun_cuts_and_tags_is_joined_again(
    frames: list[Frame], most: int, chunks: list[int], cuts: list[int], rng: Any
) -> None:
    streams = {}
    for rank in range(3):
        data = b"".join(line for frame in frames[rank::3] for line in encode(frame._replace(host=rank), most))
        streams[rank] = pieces(data, chunks)
    out = b"mpirun: a word of its own\n"
    while any(streams.values()):
        rank = rng.choice([rank for rank, left in streams.items() if left])
        tag, chunk = b"[63311,%d]<stdout>:" % rank, streams[rank].pop(0)
        out += tag + chunk[:-1].replace(b"\n", b"\n" + tag) + chunk[-1:]
    heard: list[bytes] = []
    decoder = TaggedDecoder(heard.append)
    found = [frame for piece in pieces(out, cuts) for frame in decoder.feed(piece)]
    decoder.finish()
    expected = [frame._replace(host=rank) for rank in range(3) for frame in frames[rank::3]]
    assert of_hosts(found) == of_hosts(expected)
    assert b"".join(heard) == b"mpirun: a word of its own\n"


@settings(deadline=None)
@given(st.lists(FRAMES, min_size=1, max_size=3), MOST, DATA, st.data())
def test_a_torn_line_costs_its_own_frame_and_no_later_one(
    frames: list[Frame], most: int, junk: bytes, data: Any
) -> None:
    stream = b"".join(line for frame in frames for line in encode(frame, most))
    cut = data.draw(st.integers(0, len(stream)))
    gone = data.draw(st.integers(0, 200))
    last = Frame(2047, "bye", {"code": 0})
    torn = stream[:cut] + junk + stream[cut + gone :] + b"\n" + encode(last)[0]
    assert Decoder().feed(torn)[-1] == last
    TaggedDecoder().feed(b"[1,0]<stdout>:" + torn.replace(b"\n", b"\n[1,0]<stdout>:"))


def test_a_line_without_end_is_not_kept_for_ever() -> None:
    heard: list[bytes] = []
    decoder = Decoder(heard.append)
    for _ in range(40):
        assert decoder.feed(b"\x1bN 1 x" * 100_000) == []
    assert sum(map(len, heard)) >= 12_000_000
    frame = Frame(2047, "bye", {"code": 0})
    assert decoder.feed(b"\n" + encode(frame)[0]) == [frame]
