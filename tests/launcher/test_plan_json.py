"""plan.json: the same plan comes back, and anything else is refused in one line."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.errors import LauncherError
from launcher.plan.layers import plain
from launcher.plan.model import HostSpec, Plan, Policy, RankSpec
from launcher.runs import registry
from launcher.text import SCHEDULER
from tests.launcher.log_makers import make_run
from tests.launching import launch

NEWER = ("on_event", "on_event_only", "alert_loss", "alert_throughput", "fail_on_alert")
# What os.environ makes of bytes that are no UTF-8 belongs to the texts of a plan.
TEXTS = st.text(
    st.one_of(
        st.characters(blacklist_categories=("Cs",)), st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF)
    ),
    max_size=9,
)
WHOLE = st.integers(-(2**70), 2**70)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)


def tuples(items: Any) -> Any:
    return st.lists(items, max_size=3).map(tuple)


POLICIES = st.builds(
    Policy,
    NUMBERS,
    NUMBERS,
    NUMBERS,
    WHOLE,
    tuples(TEXTS),
    WHOLE,
    tuples(WHOLE),
    st.booleans(),
    WHOLE,
    tuples(TEXTS),
    tuples(TEXTS),
    tuples(TEXTS),
    NUMBERS,
    NUMBERS,
    tuples(TEXTS),
)
RANKS = st.builds(
    RankSpec,
    WHOLE,
    TEXTS,
    WHOLE,
    WHOLE,
    WHOLE,
    tuples(TEXTS),
    st.dictionaries(TEXTS, TEXTS),
    TEXTS,
    tuples(WHOLE),
)
HOSTS = st.builds(HostSpec, WHOLE, TEXTS, TEXTS, TEXTS)
PLANS = st.builds(
    Plan, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, tuples(RANKS), POLICIES, tuples(TEXTS), tuples(HOSTS)
).map(lambda plan: replace(plan, ranks=tuple(replace(spec, rank=n) for n, spec in enumerate(plan.ranks))))
RANK = RankSpec(0, "10.0.0.9", 4, 0, 0, ("/bin/true",), {"TOKEN": "hush"}, "/r", (1, 2))
PLAN = Plan(
    "job", "job-1", "/r/runs/job-1", "10.0.0.9", "cpu", '{"status": "completed"}\n', (RANK,), Policy(), ("n",)
)


@given(PLANS)
def test_a_plan_comes_back_as_it_was(plan: Plan) -> None:
    assert Plan.from_json(plan.to_json()) == plan


def test_the_document_has_its_version_first_and_every_field() -> None:
    document = json.loads(PLAN.to_json())
    assert next(iter(document.items())) == ("version", 2)
    fields = {*asdict(PLAN)} - {"scheduler"}  # which this run has not
    assert set(document) == {"version", "commands", "environment", "environments", *fields}


def test_what_ranks_share_is_written_once() -> None:
    text = (of_ranks(["a", "a", "b"], ["0", "1", "2"])).to_json()
    document = json.loads(text)
    assert document["environment"] == {"TOKEN": "hush"} and document["commands"] == [["/bin/true"]]
    assert document["environments"] == {"a": {"HOST": "a"}, "b": {"HOST": "b", "RANK_ID": "2"}}
    assert [rank["env"] for rank in document["ranks"]] == [{"RANK_ID": "0"}, {"RANK_ID": "1"}, {}]
    assert text.count("/bin/true") == 1 and Plan.from_json(text).to_json() == text


def of_ranks(servers: list[str], ids: list[str]) -> Plan:
    ranks = [
        replace(RANK, rank=rank, server_id=name, env={"TOKEN": "hush", "HOST": name, "RANK_ID": ids[rank]})
        for rank, name in enumerate(servers)
    ]
    return replace(PLAN, ranks=tuple(ranks))


def test_the_plan_of_one_host_of_several_has_ranks_that_begin_elsewhere() -> None:
    part = replace(PLAN, ranks=(replace(RANK, rank=8), replace(RANK, rank=17)))
    assert Plan.from_json(part.to_json()) == part


def test_a_document_of_version_1_is_still_read() -> None:
    document = {"version": 1, **json.loads(json.dumps(asdict(PLAN)))}
    del document["hosts"], document["scheduler"]
    assert Plan.from_json(json.dumps(document)) == PLAN
    document["hosts"] = []
    with pytest.raises(LauncherError, match="unknown field 'hosts'"):
        Plan.from_json(json.dumps(document))


def test_an_environment_in_layers_is_as_good_as_a_dict() -> None:
    env = Plan.from_json(of_ranks(["a", "b"], ["0", "1"]).to_json()).ranks[0].env
    assert plain(env) == dict(env) == {"TOKEN": "hush", "HOST": "a", "RANK_ID": "0"}
    assert len(env) == 3 and env.get("NOTHING") is None and repr(env) == repr(dict(env))


@pytest.mark.parametrize("place", [(), ("policy",), ("ranks", 0)])
def test_every_field_is_needed_and_no_other_is_taken(place: tuple[Any, ...]) -> None:
    for name in [name for name in inside(json.loads(PLAN.to_json()), place) if name not in NEWER]:
        document = json.loads(PLAN.to_json())
        del inside(document, place)[name]
        with pytest.raises(
            LauncherError, match="no 'version'|no version" if name == "version" else f"no {name!r}"
        ):
            Plan.from_json(json.dumps(document))
    inside(document, place)["colour"] = "red"
    with pytest.raises(LauncherError):
        Plan.from_json(json.dumps(document))


def inside(document: Any, place: tuple[Any, ...]) -> Any:
    for step in place:
        document = document[step]
    return document


def changed(*place: Any, to: Any) -> str:
    document = json.loads(PLAN.to_json())
    inside(document, place[:-1])[place[-1]] = to
    return json.dumps(document)


@pytest.mark.parametrize(
    "text,message",
    [
        (changed("version", to=7), "plan.json: version 7 (expected 2); use the npu-launch that wrote it"),
        (changed("version", to=True), "version: true or false (expected a whole number)"),
        (changed("version", to=1.0), "version: a number (expected a whole number)"),
        (changed("version", to=None), "version: null (expected a whole number)"),
        ("{}", "plan.json: no version (expected 2)"),
        (changed("colour", to=1), "unknown field 'colour'"),
        (changed("ranks", to={}), "ranks: an object (expected a list)"),
        (changed("ranks", 0, to=[]), "ranks[0]: a list (expected an object)"),
        (changed("ranks", 0, "rank", to=-3), "ranks[0].rank: rank -3 (expected more than -1"),
        (changed("ranks", 0, "device_id", to="4"), "ranks[0].device_id: a text (expected a whole number)"),
        (changed("ranks", 0, "device_id", to=True), "ranks[0].device_id: true or false (expected a whole"),
        (changed("commands", 0, to="true"), "commands[0]: a text (expected a list)"),
        (changed("commands", 0, 0, to=None), "commands[0][0]: null (expected a text)"),
        (changed("ranks", 0, "argv", to=1), "ranks[0].argv: command 1 (expected one of the 1 commands"),
        (changed("environment", "TOKEN", to=12345), "environment.TOKEN: a whole number (expected a text)"),
        (changed("environments", to={"h": {"TOKEN": "x"}}), "environments.h: 'TOKEN' again (expected a"),
        (changed("ranks", 0, "env", to={"TOKEN": "x"}), "ranks[0].env: 'TOKEN' again (expected a variable"),
        (changed("hosts", to=[{"index": 0}]), "hosts[0]: no 'name' (expected the fields of HostSpec)"),
        (changed("policy", "quiet", to=0), "policy.quiet: a whole number (expected true or false)"),
        (changed("policy", "grace", to=False), "policy.grace: true or false (expected a number)"),
        (changed("policy", "grace", to=10**400), "policy.grace: a number out of range (expected a finite"),
        (PLAN.to_json().replace("30.0", "1e999"), "policy.grace: a number out of range (expected a finite"),
        (PLAN.to_json().replace("30.0", "Infinity"), "a number out of range (expected a JSON document)"),
        (PLAN.to_json().replace("30.0", "NaN"), "a number out of range (expected a JSON document)"),
        (PLAN.to_json()[:400], "(expected a JSON document)"),
        ("", "empty (expected a JSON document)"),
        ("[1]", "plan.json: a list (expected an object)"),
        ("[" * 100000, "nested too deeply (expected a JSON document)"),
        ('{"version": 1, "job": ' + "[" * 300 + "]" * 300 + "}", "no 'run_id'"),
    ],
)
def test_a_document_of_another_version_or_shape_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(LauncherError) as caught:
        Plan.from_json(text)
    assert message in str(caught.value) and str(caught.value).startswith("plan.json: ")
    assert "\n" not in str(caught.value) and "12345" not in str(caught.value)


def test_a_number_without_a_fraction_may_be_written_without_its_point() -> None:
    assert Plan.from_json(changed("policy", "grace", to=30)).policy.grace == 30.0


def test_a_plan_of_a_release_without_alerts_and_hook_has_none() -> None:
    document = json.loads(PLAN.to_json())
    for name in NEWER:
        del document["policy"][name]
    policy = Plan.from_json(json.dumps(document)).policy
    assert (policy.on_event, policy.alert_loss, policy.grace) == ((), 0.0, PLAN.policy.grace)


def test_a_plan_with_a_number_that_json_does_not_have_is_not_written() -> None:
    with pytest.raises(ValueError):
        replace(PLAN, policy=Policy(grace=float("inf"))).to_json()


SPOILED: list[Callable[[Path], Any]] = [
    lambda path: path.write_text(
        '{"run_id": "job-1", "ranks": [{"rank": 0, "device_id": "x"}]}'
    ),  # no version
    lambda path: path.write_text(PLAN.to_json()[:99]),
    lambda path: path.write_bytes(b"\xff\xfe"),
    lambda path: path.mkdir(),
]


@pytest.mark.parametrize("spoil", SPOILED)
def test_an_unreadable_plan_hides_no_other_run_from_ps(tmp_path: Path, spoil: Callable[[Path], Any]) -> None:
    for name in ("a-1", "b-2", "c-3"):
        run = make_run(tmp_path / "runs" / name, [[]])
        run.plan.write_text(replace(PLAN, run_id=name).to_json())
    run.plan.unlink()
    spoil(run.plan)
    done = launch(tmp_path, "ps", "--json")
    rows = {row["run"]: row for row in json.loads(done.stdout) if row["path"].startswith(str(tmp_path))}
    assert [(rows[name]["ranks"], rows[name]["devices"]) for name in ("a-1", "b-2")] == [(1, "4"), (1, "4")]
    assert (rows["c-3"]["state"], rows["c-3"]["ranks"]) == ("finished", 0)
    named = [line for line in done.stderr.splitlines() if line.startswith("npu-launch: c-3: plan.json: ")]
    assert done.returncode == 0 and len(named) == 1
    assert not [
        line for line in done.stderr.splitlines() if line.startswith(("npu-launch: a-1", "npu-launch: b-2"))
    ]
    assert launch(tmp_path, "stop", "c-3").stdout == "npu-launch: c-3: no process of it is running\n"


def test_a_run_folder_without_a_plan_is_no_problem(tmp_path: Path) -> None:
    status = registry.status(make_run(tmp_path / "runs" / "job-1", [[]]))
    assert (status.devices, status.problems) == ({}, ())


def test_the_plan_of_a_renamed_run_still_names_its_processes(tmp_path: Path) -> None:
    run = make_run(tmp_path / "runs" / "renamed", [[]])
    run.plan.write_text(PLAN.to_json())
    assert registry.run_id(run) == "job-1"
    os.unlink(run.plan)
    assert registry.run_id(run) == "renamed"


def test_a_secret_is_masked_wherever_it_stands() -> None:
    names = ("ALL_TOKEN", "HOST_TOKEN", "RANK_TOKEN")
    values = [("hush", "hush-" + server, f"hush-{rank}") for rank, server in enumerate("aab")]
    ranks = tuple(
        replace(RANK, rank=rank, server_id="aab"[rank], env=dict(zip(names, values[rank])))
        for rank in range(3)
    )
    plan = replace(PLAN, ranks=ranks)
    assert "hush" not in plan.to_json(masked=True)
    assert {rank.env[name] for rank in Plan.from_json(plan.to_json(masked=True)).ranks for name in names} == {
        "***"
    }


def test_the_scheduler_s_secrets_are_masked_as_a_rank_s() -> None:
    scheduler = replace(RANK, rank=SCHEDULER, device_id=-1)
    plan = replace(PLAN, scheduler=scheduler)
    assert "hush" in plan.to_json() and "hush" not in plan.to_json(masked=True)
    assert Plan.from_json(plan.to_json()).scheduler == scheduler
