"""Environments of many ranks, of which most is the same: what they share is held and written once."""

from __future__ import annotations

from typing import Dict, Iterator, List, Mapping, Sequence, Tuple

Env = Mapping[str, str]


class Layered(Mapping[str, str]):
    """An environment in parts that have no name in common; a part may belong to many ranks."""

    __slots__ = ("parts",)

    def __init__(self, *parts: dict[str, str]) -> None:
        self.parts = parts

    def __getitem__(self, name: str) -> str:
        for part in self.parts:
            if name in part:
                return part[name]
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        for part in self.parts:
            yield from part

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __repr__(self) -> str:
        return repr(plain(self))


def plain(env: Env) -> dict[str, str]:
    """Return an environment as a dict of its own."""
    if not isinstance(env, Layered):
        return dict(env)
    whole: dict[str, str] = {}
    for part in env.parts:
        whole.update(part)
    return whole


Layers = Tuple[Dict[str, str], Dict[str, Dict[str, str]], List[Dict[str, str]]]


def split(hosts: Sequence[str], envs: Sequence[Env]) -> Layers:
    """Return what all environments share, what those of each host share beside it, and each one's rest."""
    items = [set(plain(env).items()) for env in envs]
    shared: dict[str, set[tuple[str, str]]] = {}
    for host, own in zip(hosts, items):
        shared[host] = shared[host] & own if host in shared else own
    common = set.intersection(*shared.values()) if shared else set()
    rests = [dict(sorted(own - shared[host])) for host, own in zip(hosts, items)]
    of_hosts = {host: dict(sorted(some - common)) for host, some in shared.items()}
    return dict(sorted(common)), of_hosts, rests
