"""Slurm's host lists, expanded and written without scontrol."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.engines.hostlist import compress, expand
from launcher.errors import UsageError


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("node[1-4]", "node1 node2 node3 node4"),
        ("login", "login"),
        ("pre[1-3,05-07]post,x", "pre1post pre2post pre3post pre05post pre06post pre07post x"),
        ("n[098-101]", "n098 n099 n100 n101"),
        ("r[1-2]n[01-02]", "r1n01 r1n02 r2n01 r2n02"),
        ("a-b[3,1],c.d", "a-b3 a-b1 c.d"),
    ],
)
def test_a_host_list_is_expanded_in_its_order(text: str, names: str) -> None:
    assert expand(text) == tuple(names.split())


BAD = ["", "a,,b", "n[1,2", "n]", "n[]", "n[x]", "n[5-3]", "n[1-99999999]", "n[1-60000],m[1-60000]", "a,"]


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_host_list_is_refused_at_once(text: str) -> None:
    with pytest.raises(UsageError, match="host list"):
        expand(text)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("node1 node2 node3 node07 x", "node[1-3,07],x"),
        ("n9 n10 n099 n100", "n[9-10,099-100]"),
        ("b a2 a1", "b,a[2,1]"),
        ("r1n1 r1n2 r2n1", "r1n[1-2],r2n1"),
    ],
)
def test_names_are_written_as_ranges_in_their_order(names: str, text: str) -> None:
    assert compress(names.split()) == text


NAMES = st.from_regex(r"[a-z]{1,3}-?[0-9]{0,4}[a-z]{0,2}", fullmatch=True)


@given(st.lists(NAMES, min_size=1, max_size=30))
def test_a_written_list_expands_to_the_same_names(names: list[str]) -> None:
    assert list(expand(compress(names))) == names
