"""plan.json: what all ranks share stands in it once, and each rank and host on a line of its own.

Version 2: `environment` is that of all ranks, `environments` what the ranks of each host share beside it,
`env` of a rank the rest; `argv` of a rank is a place in `commands`. `scheduler`, which only a run that has
one names, is like a rank with its whole `env`. Version 1 had both at every rank whole, and no hosts.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Mapping, Tuple

from launcher import typed_json
from launcher.errors import ReadError
from launcher.masking import mask
from launcher.plan.layers import Layered, plain, split
from launcher.plan.model import HostSpec, Plan, Policy, RankSpec
from launcher.text import SCHEDULER

VERSION = 2  # another shape of the document gets another number
_FIELDS = (
    "version", "job", "run_id", "run_dir", "host", "backend", "hosts", "rank_table_json", "commands",
    "environment", "environments", "ranks", "scheduler", "policy", "notes",
)  # fmt: skip
_NEWER_RULES = {  # of the policy; earlier releases of version 2 did not have them
    "on_event": [], "on_event_only": [], "alert_loss": 0, "alert_throughput": 0, "fail_on_alert": [],
}  # fmt: skip
_NEWER = ("hosts", "commands", "environment", "environments")  # not in version 1


def write(plan: Plan, masked: bool = False) -> str:
    """Write a plan; `masked` hides its secrets."""
    document = _document(plan)
    if masked:
        document = mask(document)
    members = [f"{json.dumps(key)}: {_value(document[key])}" for key in _FIELDS if key in document]
    return "{\n" + ",\n".join(members) + "\n}"


def _document(plan: Plan) -> dict[str, Any]:
    servers = [spec.server_id for spec in plan.ranks]
    common, of_hosts, rests = split(servers, [spec.env for spec in plan.ranks])
    argvs = dict.fromkeys(spec.argv for spec in plan.ranks)
    commands = {argv: place for place, argv in enumerate(argvs)}
    ranks = [
        {**vars(spec), "argv": commands[spec.argv], "env": rest} for spec, rest in zip(plan.ranks, rests)
    ]
    return {
        "version": VERSION,
        **_plain(plan),
        "commands": [list(argv) for argv in commands],
        "environment": common,
        "environments": {server: env for server, env in of_hosts.items() if env},
        "ranks": ranks,
        **(
            {"scheduler": {**vars(plan.scheduler), "argv": commands[plan.scheduler.argv]}}
            if plan.scheduler
            else {}
        ),
    }


def _plain(plan: Plan) -> dict[str, Any]:
    """Return what is written as it stands; the rest is added in its place."""
    plain = {name: value for name, value in vars(plan).items() if name != "scheduler"}
    return {**plain, "hosts": [dict(vars(host)) for host in plan.hosts], "policy": vars(plan.policy)}


def _value(value: Any) -> str:
    """Write a value in one line, or a list of objects in a line for each."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(_line(item) for item in value) + "\n]"
    return _line(value)


def _line(value: Any) -> str:
    return json.dumps(value, allow_nan=False)


def expanded(plan: Plan) -> dict[str, Any]:
    """Return the plan as a document in which each rank has its whole environment and command."""
    found = {"version": VERSION, **_plain(plan), "ranks": list(map(_whole, plan.ranks))}
    return {**found, "scheduler": _whole(plan.scheduler)} if plan.scheduler else found


def _whole(spec: RankSpec) -> dict[str, Any]:
    return {**vars(spec), "argv": list(spec.argv), "env": plain(spec.env)}


def read(text: str) -> Plan:
    """Read a plan of this version or the one before. ReadError: it is neither."""
    document = typed_json.parse(text, "plan.json")
    old = _version(document) == 1
    absent = {"scheduler"} - (set() if old else {*document.members()})  # as in most of them
    wanted = [name for name in _FIELDS if name not in absent and not (old and name in _NEWER)]
    at = document.exactly(wanted, "Plan")
    return Plan(
        job=at["job"].text(),
        run_id=at["run_id"].text(),
        run_dir=at["run_dir"].text(),
        host=at["host"].text(),
        backend=at["backend"].text(),
        rank_table_json=at["rank_table_json"].text(),
        ranks=_ranks(at, old),
        policy=_policy(at["policy"]),
        notes=at["notes"].texts(),
        hosts=() if old else tuple(map(_host, at["hosts"].items())),
        scheduler=None if absent else _scheduler(at),
    )


def _scheduler(at: Mapping[str, typed_json.Value]) -> RankSpec:
    found = _rank(at["scheduler"], SCHEDULER - 1, _argv_of(at["commands"]), _whole_env)
    if found.rank != SCHEDULER:
        at["scheduler"].refuse(f"rank {found.rank}", f"{SCHEDULER}, as it has none")
    return found


def _version(document: typed_json.Value) -> int:
    version = document.members().get("version")
    if version is None:
        raise ReadError(f"plan.json: no version (expected {VERSION}); not a plan, or an older release's")
    if version.whole() not in (1, VERSION):
        advice = "use the npu-launch that wrote it"
        raise ReadError(f"plan.json: version {version.value} (expected {VERSION}); {advice}")
    return version.whole()


ArgvReader = Callable[[typed_json.Value], Tuple[str, ...]]
EnvReader = Callable[[typed_json.Value, str], Mapping[str, str]]


def _ranks(at: Mapping[str, typed_json.Value], old: bool) -> tuple[RankSpec, ...]:
    argv = typed_json.Value.texts if old else _argv_of(at["commands"])
    env = _whole_env if old else _env_of(at)
    ranks: list[RankSpec] = []
    for item in at["ranks"].items():
        ranks.append(_rank(item, ranks[-1].rank if ranks else -1, argv, env))
    return tuple(ranks)


def _rank(value: typed_json.Value, before: int, argv: ArgvReader, env: EnvReader) -> RankSpec:
    at = value.fields(RankSpec)
    rank, server = at["rank"].whole(), at["server_id"].text()
    if rank <= before:
        at["rank"].refuse(f"rank {rank}", f"more than {before}, as ranks are listed in order")
    return RankSpec(
        rank=rank,
        server_id=server,
        device_id=at["device_id"].whole(),
        ascend_device_id=at["ascend_device_id"].whole(),
        local_rank=at["local_rank"].whole(),
        argv=argv(at["argv"]),
        env=env(at["env"], server),
        cwd=at["cwd"].text(),
        cores=at["cores"].wholes(),
    )


def _whole_env(value: typed_json.Value, server: str) -> Mapping[str, str]:
    return _environment(value)


def _environment(value: typed_json.Value) -> dict[str, str]:
    return {name: item.text() for name, item in value.members().items()}


def _argv_of(commands: typed_json.Value) -> ArgvReader:
    known = [item.texts() for item in commands.items()]

    def argv(value: typed_json.Value) -> tuple[str, ...]:
        place = value.whole()
        if not 0 <= place < len(known):
            value.refuse(f"command {place}", f"one of the {len(known)} commands, from 0 on")
        return known[place]

    return argv


def _env_of(at: Mapping[str, typed_json.Value]) -> EnvReader:
    common = _environment(at["environment"])
    hosts = {server: _environment(item) for server, item in at["environments"].members().items()}
    for server, of_host in at["environments"].members().items():
        _refuse_again(of_host, hosts[server], common)

    def env(value: typed_json.Value, server: str) -> Mapping[str, str]:
        own, of_host = _environment(value), hosts.get(server, {})
        _refuse_again(value, own, common)
        _refuse_again(value, own, of_host)
        return Layered(common, of_host, own)

    return env


def _refuse_again(value: typed_json.Value, inner: Mapping[str, str], outer: Mapping[str, str]) -> None:
    for name in inner.keys() & outer.keys():
        value.refuse(f"{name!r:.60} again", "a variable in one place only")


def _host(value: typed_json.Value) -> HostSpec:
    at = value.fields(HostSpec)
    return HostSpec(at["index"].whole(), at["name"].text(), at["server_id"].text(), at["address"].text())


def _policy(value: typed_json.Value) -> Policy:
    absent = {name: value.get(name, without) for name, without in _NEWER_RULES.items()}
    given = value.members()
    value.exactly([name for name in vars(Policy()) if name in given or name not in absent], "Policy")
    at = {**absent, **given}
    return Policy(
        grace=at["grace"].number(),
        hang_timeout=at["hang_timeout"].number(),
        early_exit_grace=at["early_exit_grace"].number(),
        max_restarts=at["max_restarts"].whole(),
        restart_on=at["restart_on"].texts(),
        max_log_bytes=at["max_log_bytes"].whole(),
        show_ranks=at["show_ranks"].wholes(),
        quiet=at["quiet"].flag(),
        stdin_rank=at["stdin_rank"].whole(),
        gather=at["gather"].texts(),
        on_event=at["on_event"].texts(),
        on_event_only=at["on_event_only"].texts(),
        alert_loss=at["alert_loss"].number(),
        alert_throughput=at["alert_throughput"].number(),
        fail_on_alert=at["fail_on_alert"].texts(),
    )
