"""Steps that are told for a program: what is counted, and that the program does not notice.

The packages below stand for the real ones as far as these are touched; those are in
tests/frameworks/test_heartbeats.py. Names, arguments and order of calls are from

- torch 2.13: torch/optim/optimizer.py (register_optimizer_step_pre_hook and _post_hook, Optimizer.__init__,
  profile_hook_step), torch/utils/data/dataloader.py (_BaseDataLoaderIter.__next__); 1.11 has no such hooks
- MindSpore 2.10: mindspore/train/model.py (Model.train, eval), mindspore/train/callback/_callback.py
- Paddle 3.3: paddle/optimizer/optimizer.py (step, minimize), adamw.py, which sets itself up alone
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable

import pytest

from launcher import beats, worker
from launcher.config import checks, job
from launcher.errors import ConfigError
from launcher.heartbeat import read_beat
from tests.launcher.test_plan import plan
from tests.launching import ROOT

OLD = """
class Optimizer:
    def __init__(self, params, defaults):
        self.params = params
    def step(self, closure=None):
        raise NotImplementedError
class SGD(Optimizer):
    def step(self, closure=None):
        pass
class Adam(Optimizer):
    def step(self, closure=None):
        pass
class Own(SGD):
    def step(self, closure=None):
        super().step()
"""
NEW = (
    OLD.replace("self.params = params", "self.params = params; hooked(type(self))")
    + """
before, after = [], []
def register_optimizer_step_pre_hook(hook): before.append(hook)
def register_optimizer_step_post_hook(hook): after.append(hook)
def hooked(kind):
    step = kind.step
    if getattr(step, "hooked", False): return
    def wrapper(*args, **kwargs):
        for hook in before: assert hook(args[0], args, kwargs) is None
        step(*args, **kwargs)
        for hook in after: hook(args[0], args, kwargs)
    wrapper.hooked = True
    kind.step = wrapper
"""
)
LOADER = """
import time
class _BaseDataLoaderIter:
    left = 3
    def __iter__(self): return self
    def __next__(self):
        time.sleep(0.05)
        self.left -= 1
        if self.left < 0: raise StopIteration
        return self.left
"""
USE = "import time; from torch.optim import SGD, Adam, Own\nfirst, second = SGD([], {}), Adam([], {})\n"


@pytest.fixture(params=["new", "old"])
def torch(request: Any, tmp_path: Path) -> Path:
    """Make a package named torch, as 2.0 and later are, or as before; give the folder that it is in."""
    data = tmp_path / "torch" / "utils" / "data"
    data.mkdir(parents=True)
    (tmp_path / "torch" / "optim").mkdir()
    for package in ("torch", "torch/utils", "torch/utils/data"):
        (tmp_path / package / "__init__.py").touch()
    (data / "dataloader.py").write_text(LOADER)
    (tmp_path / "torch" / "optim" / "__init__.py").write_text("from torch.optim.optimizer import *\n")
    (tmp_path / "torch" / "optim" / "optimizer.py").write_text(NEW if request.param == "new" else OLD)
    return tmp_path


def run(folder: Path, program: str, framework: str = "torch", use: str = USE) -> Any:
    """Run a program as a rank, as the launcher does."""
    (folder / "train.py").write_text(use + program)
    line = [sys.executable, str(ROOT / "launcher" / "worker.py"), "train.py"]
    told = {"NPU_LAUNCH_HEARTBEAT": framework, "NPU_LAUNCH_RANK_DIR": str(folder)}
    done = subprocess.run(
        line, cwd=str(folder), env={**os.environ, **told}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done


def record(folder: Path) -> Any:
    return json.loads((folder / "heartbeat.json").read_text())


# What is a step.


class Optimizer:
    """An optimizer that does something in its step."""

    def __init__(self, *inner: Callable[[], object]) -> None:
        self.inner = inner

    def step(self) -> None:
        for act in self.inner:
            act()


class Derived(Optimizer):
    """One whose step is that of its base, once for each group of its parameters."""

    def step(self) -> None:
        for _ in range(2):
            super().step()


@pytest.fixture()
def counted(monkeypatch: pytest.MonkeyPatch) -> beats.Steps:
    """Give the count of the steps of the optimizers above."""
    steps = beats.Steps(worker)
    for kind in (Optimizer, Derived):
        monkeypatch.setattr(kind, "step", kind.step)  # put back at the end
        beats._watch_method(kind, "step", steps)
    return steps


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ("a", 1), ("aaa", 3), ("ababab", 3), ("aaab" * 2, 6), ("abcd" * 5, 5), ("abba", 2),
        ("aaabbb", 5),  # a training that goes on with another optimizer: its first step shows no round
        ("", 0),
    ],
)  # fmt: skip
def test_a_step_begins_where_an_optimizer_steps_again(
    counted: beats.Steps, steps: str, expected: int
) -> None:
    optimizers = {name: Optimizer() for name in "abcd"}
    for name in steps:
        optimizers[name].step()
    assert counted.made == expected


def test_what_an_optimizer_s_step_makes_others_do_belongs_to_it(counted: beats.Steps) -> None:
    inner = Optimizer()
    wrappers = [Optimizer(*[inner.step] * 3), Derived(inner.step), Optimizer(Derived().step, inner.step)]
    for number, wrapper in enumerate(wrappers):
        for _ in range(4):
            wrapper.step()
        assert counted.made == 4 * (number + 1) - number  # the first of another wrapper joins a round
    inner.step()
    inner.step()
    assert counted.made == 11


def test_a_step_that_fails_hides_none_that_follows(counted: beats.Steps) -> None:
    def fail() -> None:
        raise ValueError

    def refused(optimizer: Optimizer) -> None:
        with pytest.raises(ValueError):
            optimizer.step()

    failing, inner = Optimizer(fail), Optimizer(fail)
    careful = Optimizer(lambda: refused(inner))
    refused(failing)
    assert counted.made == 0
    deeper: Callable[[Callable[[], None]], None] = lambda act: (lambda: act())()  # noqa: E731
    failing.inner = ()
    deeper(failing.step)
    assert counted.made == 1
    for _ in range(3):
        careful.step()
        failing.step()
    assert counted.made == 4


def test_steps_of_other_threads_are_none(counted: beats.Steps) -> None:
    optimizer, other = Optimizer(), Optimizer()
    optimizer.step()
    for act in (other.step, optimizer.step, Optimizer(optimizer.step).step):
        thread = threading.Thread(target=lambda: [act(), act()])  # noqa: B023
        thread.start()
        thread.join()
    assert counted.made == 1


# In a rank.


def test_the_steps_of_a_program_that_tells_none_are_told(torch: Path) -> None:
    done = run(torch, "for _ in range(4): first.step(); second.step(); time.sleep(0.025)\n")
    beat = read_beat(torch / "heartbeat.json")
    assert (beat.step, beat.phase, done.stderr) == (4, "train", "")
    assert beat.counters is not None and beat.counters.steps == 3 and beat.counters.wait_s is None
    assert 0.07 < beat.counters.own_s


def test_an_optimizer_that_calls_its_base_makes_one_step(torch: Path) -> None:
    run(torch, "own = Own([], {})\nfor _ in range(3): own.step()\n")
    assert record(torch)["step"] == 3


def test_forked_processes_tell_nothing(torch: Path) -> None:
    program = "import os\nfirst.step()\nif os.fork() == 0:\n    first.step()\n    os._exit(0)\nos.wait()\n"
    run(torch, program)
    assert record(torch)["step"] == 1


def test_waiting_for_the_loader_is_input_once_the_training_has_begun(torch: Path) -> None:
    use = USE + "from torch.utils.data.dataloader import _BaseDataLoaderIter\n"
    program = "assert [first.step() or n for n in _BaseDataLoaderIter()] == [2, 1, 0]\nfirst.step()\n"
    run(torch, program, use=use)
    beat = record(torch)
    assert beat["step"] == 4 and 0.14 < beat["input_s"] < beat["input_s"] + beat["own_s"]


def test_a_program_that_tells_its_steps_itself_is_left_alone(torch: Path) -> None:
    program = (
        "from launcher.worker import step\n"
        "for number in range(100, 105):\n    first.step()\n    step(number)\n"
        "assert open('heartbeat.json').read()"
    )
    run(torch, program)
    beat = record(torch)
    assert (beat["step"], beat["steps"]) == (104, 4)


def test_phases_of_the_program_stand_beside_its_steps(torch: Path) -> None:
    program = "from launcher.worker import phase\nfor _ in range(3): first.step()\nphase('evaluate')\n"
    run(torch, program)
    beat = record(torch)
    assert (beat["step"], beat["train_step"], beat["phase"]) == (0, 3, "evaluate")


@pytest.mark.parametrize("torch", ["new"], indirect=True)
def test_a_package_that_is_other_than_it_was_costs_the_program_nothing(torch: Path) -> None:
    (torch / "torch" / "optim" / "optimizer.py").write_text("Optimizer = None")
    done = run(torch, "import torch.optim\nprint('done')", use="")
    assert done.stdout == "done\n"
    assert done.stderr.startswith("npu-launch: no heartbeats of torch: AttributeError: ")


@pytest.mark.parametrize("torch", ["new"], indirect=True)
def test_an_import_hook_with_a_loader_of_the_old_kind_costs_the_program_nothing(torch: Path) -> None:
    hook = """
import importlib.machinery, sys
class Loader:
    def __init__(self, path): self.path = path
    def load_module(self, name):
        return importlib.machinery.SourceFileLoader(name, self.path).load_module(name)
class Finder:
    def find_spec(self, name, path=None, target=None):
        spec = importlib.machinery.PathFinder.find_spec(name, path)
        if name == "torch.optim.optimizer": spec.loader = Loader(spec.origin)
        return spec
sys.meta_path.insert(1, Finder())
import torch.optim
print("done")
"""
    done = run(torch, hook, use="")
    assert done.stdout == "done\n", done.stderr
    assert "npu-launch: no heartbeats of torch: AttributeError: " in done.stderr


@pytest.mark.parametrize("torch", ["new"], indirect=True)
def test_what_goes_wrong_while_telling_is_said_once_and_not_raised(torch: Path) -> None:
    program = "import launcher.worker\nlauncher.worker._take = None\nfor _ in range(3): first.step()\n"
    done = run(torch, program)
    assert done.stderr.count("npu-launch: no heartbeats of torch: TypeError") == 1


@pytest.mark.parametrize("torch", ["new"], indirect=True)
def test_a_module_that_fails_to_import_at_first_is_watched_later(torch: Path) -> None:
    (torch / "torch" / "optim" / "optimizer.py").write_text(
        "import sys\nif not hasattr(sys, 'again'):\n    sys.again = True\n    raise ImportError\n" + NEW
    )
    use = "try:\n    import torch.optim\nexcept ImportError: pass\n" + USE
    run(torch, "first.step(); first.step()\n", use=use)
    assert record(torch)["step"] == 2


@pytest.mark.parametrize("torch", ["new"], indirect=True)
def test_another_framework_s_name_leaves_torch_alone(torch: Path) -> None:
    run(torch, "first.step()", framework="paddle")
    assert record(torch)["phase"] == "start"


# DeepSpeed 0.19: deepspeed/runtime/engine.py (_take_model_step, of the pipeline's engine too, skipped_steps),
# zero/stage_1_and_2.py, whose optimizer is none of torch's; it has the step of one of these for each group.
ENGINE = """
class Zero:
    def __init__(self, optimizer): self.optimizer, self.overflow = optimizer, False
    def step(self):
        for _ in range(0 if self.overflow else 2): self.optimizer.step()
class DeepSpeedEngine:
    def __init__(self, optimizer, every):
        self.optimizer, self.every, self.micro, self.skipped_steps = Zero(optimizer), every, 0, 0
    def step(self, lr_kwargs=None):
        self.micro += 1
        if self.micro % self.every == 0: self._take_model_step(lr_kwargs)
    def _take_model_step(self, lr_kwargs):
        self.optimizer.step()
        self.skipped_steps += self.optimizer.overflow
"""


def test_of_deepspeed_the_engine_s_steps_are_told(torch: Path) -> None:
    (torch / "deepspeed" / "runtime").mkdir(parents=True)
    for name, text in (("__init__", ""), ("runtime/__init__", ""), ("runtime/engine", ENGINE)):
        (torch / "deepspeed" / (name + ".py")).write_text(text)
    use = USE + "from deepspeed.runtime.engine import DeepSpeedEngine\n"
    program = (
        "engine, critic = DeepSpeedEngine(first, 2), DeepSpeedEngine(second, 2)\n"
        "for number in range(12):\n"
        "    engine.optimizer.overflow = critic.optimizer.overflow = number < 4\n"
        "    engine.step(); critic.step()\n"
    )
    run(torch, program, use=use)
    assert record(torch)["step"] == 4


# The other frameworks.

CALLBACK = """
class Callback:
    def on_train_begin(self, run_context): pass
    def on_train_step_end(self, run_context): pass
    def on_train_end(self, run_context): pass
    def on_eval_begin(self, run_context): pass
"""
MODEL = """
from mindspore.train.callback import Callback
class Rows:
    def get_batch_size(self): return 8
class Params(dict):
    __getattr__ = dict.__getitem__
    def original_args(self): return self
class Model:
    def train(self, epoch, train_dataset, callbacks=None, dataset_sink_mode=False):
        self.given = callbacks
        args = Params(batch_num=4, epoch_num=epoch, train_dataset=train_dataset)
        for callback in callbacks: callback.on_train_begin(args)
        for step in range(2, 4 * epoch + 1, 2):  # two steps in each sink
            for callback in callbacks: callback.on_train_step_end(Params(args, cur_step_num=step))
        for callback in callbacks: callback.on_train_end(args)
    def eval(self, valid_dataset, callbacks=None, dataset_sink_mode=False):
        for callback in callbacks: callback.on_eval_begin(None)
"""
PADDLE = """
dynamic = True
def in_dynamic_mode(): return dynamic
"""
PADDLE_OPTIMIZER = """
class Optimizer:
    def __init__(self): pass
    def step(self): pass
    def minimize(self, loss): pass
"""
PADDLE_ADAMW = """
from .optimizer import Optimizer
class AdamW(Optimizer):
    def __init__(self): self.calls = 0
    def step(self): self.calls += 1
"""


@pytest.fixture()
def mindspore(tmp_path: Path) -> Path:
    """Make a package named mindspore; give the folder that it is in."""
    (tmp_path / "mindspore" / "train").mkdir(parents=True)
    for name, text in (
        ("__init__", ""), ("train/__init__", "from mindspore.train.model import Model"),
        ("train/callback", CALLBACK), ("train/model", MODEL),
    ):  # fmt: skip
        (tmp_path / "mindspore" / (name + ".py")).write_text(text)
    return tmp_path


USE_MODEL = "from mindspore.train.model import Callback, Model, Rows\nmodel = Model()\n"


def test_the_steps_of_a_model_are_told_over_all_its_trainings(mindspore: Path) -> None:
    program = (
        "mine = Callback()\n"
        "model.train(1, Rows()); model.train(epoch=2, train_dataset=Rows(), callbacks=mine)\n"
        "assert model.given[0] is mine\n"
        "model.train(1, Rows(), [mine]); model.eval(Rows())\n"
    )
    assert run(mindspore, program, "mindspore", USE_MODEL).stderr == ""
    beat = record(mindspore)
    assert (beat["train_step"], beat["total_steps"], beat["phase"]) == (16, 16, "evaluate")
    assert beat["steps"] == 16 - 3 * 2 and beat["examples"] == 8 * beat["steps"]  # each begins a count


def test_a_model_that_has_the_callback_gets_no_second_one(mindspore: Path) -> None:
    use = USE_MODEL + "from launcher.beats import mindspore_callback\n"
    program = "mine = mindspore_callback()\nmodel.train(1, Rows(), [mine])\nassert model.given == [mine]\n"
    for framework in ("mindspore", ""):
        run(mindspore, program, framework, use)
        assert (record(mindspore)["train_step"], record(mindspore)["phase"]) == (4, "trained")


def test_callbacks_that_are_no_list_reach_model_too(mindspore: Path) -> None:
    program = (
        "mine = Callback()\n"
        "for given in ((mine,), iter([mine]), {mine}, mine):\n"
        "    model.train(1, Rows(), given)\n"
        "    assert model.given[0] is mine and len(model.given) == 2\n"
    )
    assert run(mindspore, program, "mindspore", USE_MODEL).stderr == ""
    assert record(mindspore)["train_step"] == 16


def test_a_call_that_model_refuses_fails_as_it_does_without_us(mindspore: Path) -> None:
    program = "try:\n    model.train()\nexcept TypeError as error: print(error)\n"
    assert "missing 2 required positional arguments" in run(mindspore, program, "mindspore", USE_MODEL).stdout


def test_paddle_s_optimizers_are_watched_where_they_run(tmp_path: Path) -> None:
    (tmp_path / "paddle" / "optimizer").mkdir(parents=True)
    for name, text in (
        ("__init__", PADDLE), ("optimizer/__init__", "from .adamw import *"),
        ("optimizer/optimizer", PADDLE_OPTIMIZER), ("optimizer/adamw", PADDLE_ADAMW),
    ):  # fmt: skip
        (tmp_path / "paddle" / (name + ".py")).write_text(text)
    program = (
        "own, plain = AdamW(), Optimizer()\n"
        "own.step(); plain.step(); own.step(); own.minimize(None)\n"
        "paddle.dynamic = False; own.minimize(None); own.step()\n"
        "assert own.calls == 3\n"
    )
    run(tmp_path, program, "paddle", "import paddle\nfrom paddle.optimizer import AdamW, Optimizer\n")
    assert record(tmp_path)["step"] == 3


# In a job.


def test_a_job_names_a_framework_whose_steps_can_be_told() -> None:
    assert checks.HEARTBEATS == tuple(beats.FRAMEWORKS) and checks.HEARTBEAT_VARIABLE == beats.VARIABLE
    with pytest.raises(ConfigError, match=r"heartbeat: 'jax': invalid value \(expected one of torch, "):
        job.load(None, ["heartbeat=jax"], {})
    with pytest.raises(ConfigError, match=r"env.NPU_LAUNCH_HEARTBEAT: 'on': invalid value"):
        job.load(None, ["env.NPU_LAUNCH_HEARTBEAT=on"], {})


def test_a_rank_learns_of_it_and_a_command_cannot() -> None:
    def notes(made: Any) -> list[str]:
        return [note for note in made.notes if "heartbeat" in note.lower()]

    made = plan(command=("-m", "train"), heartbeat="torch")
    assert (made.ranks[0].env["NPU_LAUNCH_HEARTBEAT"], notes(made)) == ("torch", [])
    for keys in ({"heartbeat": "torch"}, {"env": {"NPU_LAUNCH_HEARTBEAT": "torch"}}):
        (note,) = notes(plan(command=("sh", "train.sh"), **keys))
        assert "no effect on the command sh; give a script.py or -m MODULE" in note


def test_the_heartbeat_of_another_framework_is_named() -> None:
    def notes(framework: str) -> list[str]:
        made = plan(command=("-m", "train"), framework=framework, heartbeat="paddle")
        return [note for note in made.notes if note.startswith("heartbeat")]

    said = "heartbeat: paddle tells no steps of a program of torch; give torch, or say framework: paddle"
    assert notes("torch") == [said] and notes("none") == notes("paddle") == []
