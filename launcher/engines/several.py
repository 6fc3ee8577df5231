"""Run a job on several hosts: the head's whole course, from the start of the agents to the result.

The engine is started first; what the head needs beside it is imported, and the job looked at, while the
agents come up.
"""

from __future__ import annotations

import os
import sys
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Iterator, Mapping, Sequence

from launcher.config.job import JobConfig, Provenance
from launcher.engines.base import Allocation, Engine
from launcher.errors import LauncherError
from launcher.hosts.frames import LINE
from launcher.hosts.transport import EngineTransport, HeadTransport
from launcher.output import echo
from launcher.process.itself import PROGRAM
from launcher.process.signals import Signals, name
from launcher.run_dir import RunDir, remove_on_error
from launcher.text import some

if TYPE_CHECKING:
    from launcher.hosts.session import Session
    from launcher.plan import several
    from launcher.plan.model import Plan
    from launcher.runs.gather import Arrived
    from launcher.ui.console import Console

# Imported where they are used, but loaded while the agents start.
_LATER = (
    "engines.attempts",
    "engines.finish",
    "engines.recorder",
    "checks.hosts",
    "checks.preflight",
    "hosts.closing",
    "plan.several",
    "runs.folder",
)
# Bytes on the way to the head: of all hosts, of each at least. mpirun takes whatever it is given, and what
# one host has sent stands before the signs of life of the others.
WINDOWS, LEAST_WINDOW = 8 << 20, 64 << 10

Begun = Callable[[RunDir], None]


class Site(ABC):
    """Where the hosts come from, and what brings an agent to each of them."""

    allocation: Allocation
    line = LINE  # bytes of a line of an agent that comes whole

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command that starts the agents, for people; none where they come by themselves."""

    @abstractmethod
    def start(self) -> HeadTransport:
        """Start an agent on every host. LauncherError: it cannot be done."""


class EngineSite(Site):
    """The hosts of an engine whose program is a child of the head."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self.allocation, self.line = engine, engine.allocation(), engine.line

    def command(self) -> list[str]:
        agent = (*PROGRAM, "agent", *self._engine.agent_options)
        return self._engine.argv(agent, self.allocation.hosts)

    def start(self) -> HeadTransport:
        engine = self._engine
        return EngineTransport(
            self.command(),
            engine.environ(os.environ),
            engine.stop,
            engine.explain,
            engine.line,
            engine.after_tag,
            engine.orphaned,
            engine.exited,
            beside=not engine.reaches_own_children,
        )


class EndedError(LauncherError):
    """A signal has ended the run before its ranks were started."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {name(number)} before the ranks were started")
        self.exit_code = 128 + number


def run(
    config: JobConfig, source: Provenance, command: Sequence[str], site: Site, detach: bool = False
) -> int:
    """Run a job on the hosts of a site and report it; return the exit code.

    Detached, return 0 once all hosts are ready.

    Raises:
        UsageError, PreflightError, LauncherError: the job, or what hosts have refused.
    """
    preparation = Preparation(config, source, command)
    if not detach:
        return _run(preparation, site, lambda run: None)
    from launcher.engines.background import start_work

    job = preparation.job
    pid = start_work(lambda begun: _run(preparation, site, begun, quiet=True))
    echo(f"npu-launch: run folder {job.run_dir}")
    echo(f"npu-launch: process {pid}; attach: npu-launch logs --follow {job.run_dir}")
    return 0


def plan(config: JobConfig, source: Provenance, command: Sequence[str], site: Site) -> tuple[Plan, list[str]]:
    """Return the plan that `run` would follow, and what starts the agents: they are asked, nothing runs."""
    with Signals() as signals:
        opening = Opening(Preparation(config, source, command), site, signals, dry=True)
        with _named_signal():
            opening.open()
        from launcher.hosts.closing import dismiss

        dismiss(opening.session)
        return opening.plan, site.command()


class Preparation:
    """A job that is looked at when it is needed; at once where its rank table is to be waited for."""

    def __init__(self, config: JobConfig, source: Provenance, command: Sequence[str]) -> None:
        self.config, self._source, self._command = config, source, command
        self._job: several.Job | None = None
        if config.rank_table_file:
            self._job = self.job

    @property
    def job(self) -> several.Job:
        """The job. UsageError, PreflightError: what is wrong with it."""
        from launcher.plan.several import prepare

        self._job = self._job or prepare(self.config, self._source, self._command)
        return self._job


class _named_signal:
    """Turn a signal that came before the start into an error."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from launcher.hosts.session import Interrupted

        if isinstance(error, Interrupted):
            raise EndedError(error.number) from None


def _run(preparation: Preparation, site: Site, begun: Begun, quiet: bool = False) -> int:
    started = time.time()
    with Signals() as signals, ExitStack() as stack:
        opening = Opening(preparation, site, signals)
        with _named_signal():
            opening.open()
        from launcher.engines.attempts import Attempts
        from launcher.engines.finish import Interruption, finish, hooked
        from launcher.engines.recorder import recording
        from launcher.hosts.closing import bring_files, dismiss, release
        from launcher.runs.launcher_record import recorded
        from launcher.ui.console import Console

        stack.callback(lambda: dismiss(opening.session))
        plan, run = opening.plan, opening.run
        stack.enter_context(recorded(run))
        begun(run)
        console = Console(sys.stdout, plan.policy.show_ranks, quiet or plan.policy.quiet)
        for line in (*plan.notes, f"run folder {run.path}"):
            console.say("npu-launch: " + line)
        hook = stack.enter_context(hooked(plan, run, console))
        made_of = stack.enter_context(recording(plan, run, started))
        outcome = Attempts(opening, signals, console, hook).run()

        def arrive() -> Arrived:
            arrived = bring_files(opening.session, run, plan.policy.gather, not outcome.exit_code)
            release(opening.session)
            return arrived

        with Interruption() as interruption:
            return finish(plan, run, console, outcome, started, interruption, arrive, hook, made_of)


class Opening:
    """The way to ranks that may start: agents that are ready, the plan of all hosts, the run folder.

    dry: nothing is made. Raises what handshake and plan.several raise, and Interrupted.
    """

    def __init__(self, preparation: Preparation, site: Site, signals: Signals, dry: bool = False) -> None:
        self._preparation, self._config = preparation, preparation.config
        self._site, self._signals, self._dry = site, signals, dry
        self._names = site.allocation.hosts
        self._console: Console | None = None  # None: that of an opening, which is standard error
        self.session: Session
        self.job: several.Job
        self.plan: Plan
        self.run: RunDir
        self._layout: several.Layout
        self._shared: list[bool] = []
        self._undo = ExitStack()

    def open(self) -> None:
        """Come to the first attempt."""
        with ExitStack() as undo:
            self._start(undo)
            self._look_at_job()
            self._meet()
            from launcher.plan import several

            notes = [self._ask_for_disk()]
            facts = [host.facts for host in self.session.fleet if host.facts is not None]
            self._layout = several.lay_out(self.job, facts, self._site.allocation.devices)
            if not self._dry:
                if not os.path.lexists(str(self.run.path)):
                    undo.enter_context(remove_on_error(self.run.path))
                from launcher.runs import folder

                self.run = folder.begin(self.run.path, self._config, self._layout.text, self.job.command)
            self._get_ready(0)
            notes += self._judge_hosts()
            parts = [host.plan for host in self.session.fleet if host.plan is not None]
            self.plan = several.whole_plan(
                self.job, self._layout, parts, [note for note in notes if note], os.environ
            )
            if not self._dry:
                self._complete()
            self.session.console.close()  # whoever reads it need not wait for a run in the background
            undo.pop_all()

    def again(self, number: int, console: Console) -> None:
        """Come to attempt `number`: new agents on the same hosts."""
        self._console = console
        with ExitStack() as undo:
            self._start(undo)
            self._meet()
            self._get_ready(number)
            self._judge_hosts()
            undo.pop_all()

    def _start(self, undo: ExitStack) -> None:
        transport = self._site.start()
        from launcher.hosts import closing
        from launcher.hosts.session import Session
        from launcher.ui.console import Console

        self._console = self._console or Console(sys.stderr)
        lease = self._config.lease
        self.session = Session(transport, self._names, self._signals, self._console, lease)
        undo.callback(closing.dismiss, self.session)

    def _look_at_job(self) -> None:
        """Do what the job alone needs, while the agents come up."""
        from launcher.process import spawn

        spawn.raise_descriptor_limit()
        self.job = self._preparation.job
        self.run = RunDir(Path(self.job.run_dir))
        for module in _LATER:
            import_module("launcher." + module)
        if self.job.given is None:
            from rank_table import render

            render.prepare()

    def _meet(self) -> None:
        from launcher.hosts import handshake

        handshake.meet(self.session, self._config.host_timeout)

    def _ask_for_disk(self) -> str:
        """Find out which hosts see this disk; return the note about it."""
        place = self.run.path.parent
        if self._dry and not place.is_dir():
            self._shared = [False] * len(self._names)
            return ""
        from launcher.hosts import handshake, probe

        with probe.Probe(place) as token:
            seen = handshake.ask_for_disk(self.session, token)
        self._shared = [bool(host.sees_disk) for host in self.session.fleet]
        return probe.answer(str(place), seen)

    def _get_ready(self, number: int) -> None:
        window = max(LEAST_WINDOW, WINDOWS // len(self._names))
        shared = [False] * len(self._names) if self._dry else self._shared
        from launcher.hosts import handshake
        from launcher.plan.several import make_order

        attempt, line = self.run.earlier + number, self._site.line
        order = make_order(self.job, self._layout, os.environ, shared, window, attempt, line)
        for host in self.session.fleet:
            host.ranks, host.sees_disk = self._layout.ranks(host.index), self._shared[host.index]
        body = {**order.to_json(), "dry": self._dry}
        handshake.get_ready(self.session, body, self._config.host_timeout)
        handshake.measure_clocks(self.session)

    def _judge_hosts(self) -> list[str]:
        """Refuse what is wrong with any host, in one report; return the notes of all."""
        from launcher.checks import hosts as checks
        from launcher.checks.finding import WARNING
        from launcher.checks.preflight import raise_if_any

        fleet, config = self.session.fleet, self._config
        found = checks.grouped({host.name: host.findings for host in fleet})
        found += checks.compare(
            [host.facts for host in fleet if host.facts is not None],
            {host.index: host.offset.wall for host in fleet},
            {host.index: host.report for host in fleet if host.report},
            self._layout.backend,
            config.skip_preflight,
        )
        echo(*(f"npu-launch: warning: {item}" for item in found if item.level == WARNING), err=True)
        raise_if_any(found)
        notes: dict[str, list[str]] = {}
        for host in self.session.fleet:
            for note in host.notes:
                notes.setdefault(note, []).append(host.name)
        return list(_named_notes(notes, len(self._names)))

    def _complete(self) -> None:
        """Write what is known before the start."""
        from launcher.runs import folder

        offsets = {host.index: (host.offset.wall, host.offset.error) for host in self.session.fleet}
        versions = {host.index: host.facts.versions for host in self.session.fleet if host.facts is not None}
        hosts = self._layout.hosts_json(offsets, self._shared)
        told = [{**host, "versions": versions.get(place, {})} for place, host in enumerate(hosts)]
        folder.complete(self.run, self.plan, told)


def _named_notes(notes: Mapping[str, Sequence[str]], count: int) -> Iterator[str]:
    """Say a note of all hosts once, and that of some with their names."""
    for note, names in notes.items():
        yield note if len(names) == count else f"{some(names)}: {note}"
