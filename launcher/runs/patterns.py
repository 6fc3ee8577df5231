"""Find files of a folder by patterns as the shell writes them; nothing leads out of the folder.

`*`, `?`, `[...]` stand for a part of a name, `**` for any number of folders. Names that begin with a dot are
matched by patterns that do. A link to something within the folder counts as what it leads to, but `**` goes
through no link: one that leads to a folder above itself has no end.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import stat
from typing import Iterator, NamedTuple

_ANY_DEPTH = "**"
_OUTSIDE = "a link out of the rank's folder; not followed"
_DEEPEST = 100  # folders, one in the other
_MOST_LINKS = 100  # ways to one folder: links that lead to each other have no end


class Found(NamedTuple):
    """What a pattern found: its path within the folder, and what is wrong with it ("": nothing).

    problem: it was asked for and cannot be had. note: it was passed over, as `*` and `**` match much.
    """

    path: str
    problem: str = ""
    note: str = ""


def find(folder: str, pattern: str) -> list[Found]:
    """Find the files of a folder, sorted by path."""
    parts = [part for part in pattern.split("/") if part not in ("", ".")]
    if pattern.startswith("/") or os.pardir in parts or "\0" in pattern:
        return [Found(pattern, "leads out of the rank's folder (expected a pattern within it)")]
    if parts and parts[-1] == _ANY_DEPTH:
        parts.append("*")
    root = os.path.realpath(folder)
    return sorted(set(_search(root, tuple(parts))))


def _search(root: str, parts: tuple[str, ...]) -> Iterator[Found]:
    """Match part by part; a folder is looked at once for the same parts left, and once by each link to it."""
    todo: list[tuple[str, tuple[str, ...]]] = [("", parts)] if parts else []
    visits: dict[tuple[str, tuple[str, ...]], set[str]] = {}
    while todo:
        folder, left = todo.pop()
        if folder.count(os.sep) >= _DEEPEST:  # each further one costs more than the last
            yield Found(folder, f"more than {_DEEPEST} folders deep; not searched")
            continue
        ways = visits.setdefault((os.path.realpath(os.path.join(root, folder)), left), set())
        if folder in ways:
            continue
        if len(ways) == _MOST_LINKS:
            yield Found(folder, f"more than {_MOST_LINKS} links lead to this folder")
            continue
        ways.add(folder)
        part, *rest = left
        if part == _ANY_DEPTH:  # a pattern ends with another part
            todo.append((folder, tuple(rest)))
        for item in _matches(root, folder, part):
            if isinstance(item, Found):
                yield item
            elif part == _ANY_DEPTH:
                todo.append((item, left))
            elif not rest:
                yield from _file(root, item, glob.has_magic(part))
            elif _is_folder_within(root, item):
                todo.append((item, tuple(rest)))
            else:
                yield from _outside(root, item, glob.has_magic(part))


def _matches(root: str, folder: str, part: str) -> Iterator[str | Found]:
    """Yield the paths in a folder that match one part; for `**` the folders that are no links."""
    if part != _ANY_DEPTH and not glob.has_magic(part):
        path = os.path.join(folder, part)
        if os.path.lexists(os.path.join(root, path)):
            yield path
        return
    try:
        with os.scandir(os.path.join(root, folder)) as entries:
            names = [(entry.name, entry.is_symlink(), _is_folder(entry)) for entry in entries]
    except NotADirectoryError:
        return
    except OSError as error:
        yield Found(folder or ".", str(error.strerror))
        return
    for name, is_link, is_folder in names:
        path = os.path.join(folder, name)
        if part == _ANY_DEPTH:
            if is_folder and is_link and not _is_within(root, path):
                yield Found(path, note=_OUTSIDE)
            elif is_folder and not is_link and not name.startswith("."):
                yield path
        elif fnmatch.fnmatchcase(name, part) and (part.startswith(".") or not name.startswith(".")):
            yield path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _is_within(root: str, path: str) -> bool:
    target = os.path.realpath(os.path.join(root, path))
    return (target + os.sep).startswith(root + os.sep)


def _is_folder_within(root: str, path: str) -> bool:
    return os.path.isdir(os.path.join(root, path)) and _is_within(root, path)


def _outside(root: str, path: str, magic: bool) -> Iterator[Found]:
    if os.path.isdir(os.path.join(root, path)):
        yield Found(path, note=_OUTSIDE) if magic else Found(path, _OUTSIDE)


def _file(root: str, path: str, magic: bool) -> Iterator[Found]:
    """Yield a match if it is a file of the folder."""
    full = os.path.join(root, path)
    try:
        mode = os.stat(full).st_mode
    except OSError as error:
        problem = "a link to nothing" if os.path.islink(full) else str(error.strerror)
        yield Found(path, note=problem) if magic else Found(path, problem)
        return
    if stat.S_ISDIR(mode):
        if not magic:
            yield Found(path, f"a folder (expected a file); write {path}/** for all in it")
    elif not _is_within(root, path):
        yield Found(path, _OUTSIDE)
    elif not stat.S_ISREG(mode):
        yield Found(path, note="no regular file") if magic else Found(path, "no regular file")
    else:
        yield Found(path)
