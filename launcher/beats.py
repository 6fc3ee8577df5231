"""Tell the steps of a PyTorch, MindSpore or PaddlePaddle program that does not tell them itself.

NPU_LAUNCH_HEARTBEAT names the framework. Nothing of it is imported: once the program does that, its
optimizers (of MindSpore, its Model) are watched. Stdlib only, one file, loaded by its path from worker.py.

What a step is: an optimizer that steps begins a round, the others that step before it does so again belong to
the round, and each round is a step. So two optimizers of a GAN make one step together, one optimizer for each
parameter too, and five steps of a critic for one of its generator are five. What an optimizer's step makes
others do belongs to it, however often; DeepSpeed's engine counts as an optimizer. Adding up gradients is
none, nor is a step that a GradScaler or the engine leaves out. Steps are counted from 1 in each attempt, by
the thread that makes the first one, and not in processes that the rank starts.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import threading
from contextlib import suppress
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import CodeType, FrameType, ModuleType
from typing import Any, Callable, Iterable, Mapping, NamedTuple

VARIABLE = "NPU_LAUNCH_HEARTBEAT"
_MARK = "npu_launch_watched"


class _Open(NamedTuple):
    """An optimizer, by its id, within its step; `code` runs that step, in the frame of this depth."""

    depth: int
    code: CodeType
    optimizer: int


def _codes(frame: FrameType | None) -> list[CodeType]:
    """List what a frame runs, and what the frames run that it was called from."""
    found = []
    while frame is not None:
        found.append(frame.f_code)
        frame = frame.f_back
    return found


class Steps:
    """The steps that optimizers make; each is told through the worker file."""

    def __init__(self, worker: Any) -> None:
        self.made = 0
        self._worker = worker
        self._pid, self._thread = os.getpid(), 0  # of the training
        self._open: list[_Open] = []  # the outermost first
        self._round: set[int] = set()  # those that have stepped since the last step began
        self._off = False

    @property
    def worker(self) -> Any:
        """Return the worker file's functions: the copy that the program imports, if it does."""
        imported = sys.modules.get("launcher.worker")
        return imported if hasattr(imported, "_take") else self._worker

    def begin(self, optimizer: object, frame: FrameType) -> None:
        """Take down that an optimizer is within its step, which `frame` runs, and may be within another's."""
        if self._off or not self.is_here():
            return
        codes = _codes(frame)
        # Not those whose step raised: the frame that ran it has gone.
        self._open = [one for one in self._open if one.depth < len(codes) and codes[-one.depth] is one.code]
        self._open.append(_Open(len(codes), codes[0], id(optimizer)))

    def end(self, optimizer: object, frame: FrameType, made: bool = True) -> None:
        """Count the end of an optimizer's step, unless it is part of another's, or none was made."""
        if self._off or not self.is_here():
            return
        number, depth = id(optimizer), len(_codes(frame))
        places = [at for at, one in enumerate(self._open) if one.optimizer == number and one.depth <= depth]
        if not places:
            return
        del self._open[places[-1] :]
        if made and not self._open:
            self._count(number)

    def _count(self, number: int) -> None:
        if self._round and number not in self._round:
            self._round.add(number)
            return
        self._round = {number}
        self.made += 1
        self.tell(self.made)

    def is_here(self) -> bool:
        """Tell whether this is the training's thread, in the rank's own process; the first to step is."""
        self._thread = self._thread or threading.get_ident()
        return threading.get_ident() == self._thread and os.getpid() == self._pid

    def tell(self, step: int, examples: int = 0, total: int = 0) -> None:
        """Tell a step, until the program tells its own. Never raises: the program must not fail by this."""
        try:
            self._off = self._off or not self._tell(self.worker, step, examples, total)
        except Exception as error:
            self._off = True
            complain(error)

    def _tell(self, worker: Any, step: int, examples: int, total: int) -> bool:
        if worker._is_rank():
            with worker._told.lock:
                if worker._told.training and not worker._told.watched:
                    return False
                worker._told.watched = True
                worker._take(step, examples, 0, total)
        return True

    def timed_input(self, read: Callable[[Any], Any], loader: Any) -> Any:
        """Return what `read` does, and count its time as input once the training has begun."""
        if not self._thread or self._off or not self.is_here():
            return read(loader)
        with self.worker.timed("input"):
            return read(loader)


def complain(error: Exception) -> None:
    """Say in one line that there will be no more heartbeats."""
    name = os.environ.get(VARIABLE, "")
    with suppress(Exception):  # the program may have closed it
        sys.stderr.write(f"npu-launch: no heartbeats of {name}: {type(error).__name__}: {error}\n")


# What is done with a module of a framework, once it is there.


def watch_torch(module: Any, worker: Any, steps: Steps) -> None:
    """Watch all optimizers of torch: by the hooks that 2.0 and later have, else as they are made."""
    if not hasattr(module, "register_optimizer_step_post_hook"):
        watch_made(module, worker, steps)
        return
    for register, hook in (
        (module.register_optimizer_step_pre_hook, steps.begin),
        (module.register_optimizer_step_post_hook, steps.end),
    ):

        def plain(*args: Any, hook: Callable[..., None] = hook) -> None:
            hook(args[0], sys._getframe(1))

        plain._torchdynamo_disable = True  # type: ignore[attr-defined]  # torch.compile leaves it as it is
        register(plain)


def watch_torch_input(module: Any, worker: Any, steps: Steps) -> None:
    """Count the seconds in which a training waits for a DataLoader."""
    kind = module._BaseDataLoaderIter
    read = kind.__next__

    @functools.wraps(read)
    def watched(self: Any) -> Any:
        return steps.timed_input(read, self)

    kind.__next__ = watched


def watch_engine(module: Any, worker: Any, steps: Steps) -> None:
    """Watch DeepSpeed's engine: its ZeRO optimizers have torch's step once for each group of parameters."""
    kind = module.DeepSpeedEngine
    method = kind._take_model_step

    @functools.wraps(method)
    def watched(self: Any, *args: Any, **options: Any) -> Any:
        skipped = self.skipped_steps
        steps.begin(self, sys._getframe())
        result = method(self, *args, **options)
        steps.end(self, sys._getframe(), made=self.skipped_steps == skipped)
        return result

    kind._take_model_step = watched


def watch_made(module: Any, worker: Any, steps: Steps) -> None:
    """Watch the class of every optimizer that is made, as torch before 2.0 does for its profiler."""
    base = module.Optimizer
    make = base.__init__

    @functools.wraps(make)
    def made(self: Any, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        _watch_method(type(self), "step", steps)

    base.__init__ = made


def watch_paddle(module: Any, worker: Any, steps: Steps) -> None:
    """Watch Paddle's classes of optimizers as they are defined: some never call the base's __init__."""
    base = module.Optimizer

    def defined(kind: Any, **options: Any) -> None:
        super(base, kind).__init_subclass__(**options)
        for name in ("step", "minimize"):
            if name in vars(kind):
                _watch_method(kind, name, steps)

    base.__init_subclass__ = classmethod(defined)  # type: ignore[arg-type]
    defined(base)


def _watch_method(kind: Any, name: str, steps: Steps) -> None:
    method = getattr(kind, name, None)
    if method is None or getattr(method, _MARK, False):
        return

    @functools.wraps(method)
    def watched(self: Any, *args: Any, **options: Any) -> Any:
        if not _runs_now():
            return method(self, *args, **options)
        steps.begin(self, sys._getframe())
        result = method(self, *args, **options)
        steps.end(self, sys._getframe())
        return result

    setattr(watched, _MARK, True)
    setattr(kind, name, watched)


def _runs_now() -> bool:
    """Tell whether a call changes weights: in Paddle's static mode it only makes a graph."""
    paddle = sys.modules.get("paddle")
    return paddle is None or bool(paddle.in_dynamic_mode())


def watch_model(module: Any, worker: Any, steps: Steps) -> None:
    """Give every training and evaluation of MindSpore's Model a callback of ours."""
    for name in ("train", "fit", "eval"):
        if hasattr(module.Model, name):
            _add_callback(module.Model, name, lambda: mindspore_callback(steps))


def _add_callback(kind: Any, name: str, make: Callable[[], Any]) -> None:
    method = getattr(kind, name)
    signature = inspect.signature(method)

    @functools.wraps(method)
    def watched(*args: Any, **options: Any) -> Any:
        try:
            bound = signature.bind(*args, **options)
            given = bound.arguments.get("callbacks")
            bound.arguments["callbacks"] = _with(given, make)
        except Exception:  # Model says what is wrong with the call
            return method(*args, **options)
        return method(*bound.args, **bound.kwargs)

    setattr(kind, name, watched)


def _with(given: Any, make: Callable[[], Any]) -> list[Any]:
    """Add a callback to what `callbacks` may be, as the last one; the program may have given one."""
    callbacks = [] if given is None else list(given) if isinstance(given, Iterable) else [given]
    if any(hasattr(callback, _MARK) for callback in callbacks):
        return callbacks
    return [*callbacks, make()]


def mindspore_callback(steps: Steps | None = None) -> Any:
    """Make a callback for MindSpore's Model that tells steps, evaluations and the end of the training."""
    Callback: Any = import_module("mindspore.train.callback").Callback
    if steps is None:
        from launcher import worker

        steps = Steps(worker)
    told = steps

    class Heartbeat(Callback):  # type: ignore[misc]
        """The progress of one training, or of one evaluation."""

        def __init__(self) -> None:
            super().__init__()
            self._before = self._total = self._batch = self._last = 0

        def on_train_begin(self, run_context: Any) -> None:
            """Begin to count after what an earlier training of this program has made."""
            params = run_context.original_args()
            self._before = told.worker._told.training.get("train_step", 0)
            self._last = params.get("initial_step") or 0
            self._total = self._before + max(0, (params.get("batch_num") or 0) * params.get("epoch_num", 0))
            with suppress(Exception):  # a data set of the program's own kind
                self._batch = params.train_dataset.get_batch_size() or 0

        def on_train_step_end(self, run_context: Any) -> None:
            """Tell a step, or as many as the device has made by itself."""
            step = run_context.original_args().cur_step_num
            made, self._last = step - self._last, step
            told.tell(self._before + step, max(0, made) * self._batch, self._total)

        def on_eval_begin(self, run_context: Any) -> None:
            """Tell that an evaluation begins, which may take any time."""
            told.worker.phase("evaluate")

        def on_train_end(self, run_context: Any) -> None:
            """Tell that what follows is no step."""
            told.worker.phase("trained")

    setattr(Heartbeat, _MARK, True)
    return Heartbeat()


Watch = Callable[[Any, Any, Steps], None]
FRAMEWORKS: Mapping[str, Mapping[str, Watch]] = {
    "torch": {
        "torch.optim.optimizer": watch_torch,
        "torch.utils.data.dataloader": watch_torch_input,
        "deepspeed.runtime.engine": watch_engine,
    },
    "mindspore": {"mindspore.train.model": watch_model},
    "paddle": {"paddle.optimizer.optimizer": watch_paddle},
}


class Finder:
    """Finds the modules that are watched as Python would, and has them looked at once they have run."""

    def __init__(self, watches: Mapping[str, Watch], worker: Any) -> None:
        self._watches, self._worker, self._steps = watches, worker, Steps(worker)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return the spec that the finders after this one give."""
        if name not in self._watches:
            return None
        others = [finder for finder in sys.meta_path if finder is not self and hasattr(finder, "find_spec")]
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            self._watch(spec.loader, self._watches[name])
        return spec

    def _watch(self, loader: Any, watch: Watch) -> None:
        def watched(module: ModuleType) -> None:
            run(module)
            try:
                watch(module, self._worker, self._steps)
            except Exception as error:
                complain(error)

        try:
            run = loader.exec_module  # which an import hook's loader of the old kind has not got
            loader.exec_module = watched
        except AttributeError as error:
            complain(error)


def install(name: str, worker: Any) -> None:
    """Have the steps of a framework told. worker: the worker file's functions."""
    watches = FRAMEWORKS.get(name)
    if watches is not None:
        sys.meta_path.insert(0, Finder(watches, worker))
