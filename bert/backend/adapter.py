"""Find the TensorFlow adapter of CANN: npu_bridge for TensorFlow 1.15, npu_device for 2.6.5.

Both are used through the session interface of npu_bridge; npu_device offers it as compat.v1, without
the loss-scale managers. Only bert/backend/npu.py imports this module.
"""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Iterator, Mapping, MutableMapping

from bert.errors import TrainerError

_TABLE = ("RANK_TABLE_FILE", "RANK_SIZE", "RANK_ID")
NAMES = {1: "npu_bridge", 2: "npu_device"}  # by TensorFlow's major version
_BUILT_FOR = {"npu_bridge": "1.15", "npu_device": "2.6"}


class AdapterError(TrainerError):
    """The NPU cannot be used; the message is one line."""


@dataclass(frozen=True)
class Adapter:
    """What both adapters offer, under one name each."""

    name: str
    version: str
    tensorflow: str
    npu_ops: Any  # initialize_system, shutdown_system, dropout
    unary_ops: Any  # gelu
    hccl_ops: Any  # allreduce, allgather, broadcast
    util: Any  # IterationPerLoop
    hccl: Any  # get_rank_id, get_rank_size; valid once the system is initialised
    float_status: Any  # the generated operations npu_get_float_status and so on
    inf_nan: Any  # () -> True where an overflow gives inf or nan, as on A2; False where it saturates
    loss_scale: Any  # module of the loss-scale managers, None if there is none

    def __str__(self) -> str:
        return f"{self.name} {self.version} on TensorFlow {self.tensorflow}"


def available() -> bool:
    """Look whether one of the adapters is installed, without importing it."""
    return any(find_spec(name) is not None for name in NAMES.values())


def find() -> Adapter:
    """Import the adapter for the installed TensorFlow.

    Raises:
        AdapterError: it is absent or cannot be loaded; the message says what was found.
    """
    import tensorflow as tf

    version = tf.__version__
    name = NAMES.get(int(version.split(".")[0]), "npu_device")
    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output):
            found = _npu_bridge(version) if name == "npu_bridge" else _npu_device(version)
    except (ImportError, OSError, AttributeError, tf.errors.OpError) as error:
        raise AdapterError(_why(name, version, _reason(output.getvalue(), error))) from error
    print(output.getvalue(), end="", flush=True)
    return found


def _reason(output: str, error: BaseException) -> str:
    """Extract the line that says why a library did not load.

    npu_bridge prints it, then fails with an ImportError of a missing name; TensorFlow 2 raises it.
    """
    lines = output.split("\n") if isinstance(error, ImportError) else []
    printed = [line.strip() for line in lines if line.strip()]
    return printed[-1] if printed else " ".join(str(getattr(error, "message", error)).split())


def _why(name: str, version: str, reason: str) -> str:
    """Explain why the adapter of that name is not used, and what to do."""
    other = next(other for other in NAMES.values() if other != name)
    see = "`npu-launch doctor` shows which versions fit together"
    if find_spec(name) is not None and not version.startswith(_BUILT_FOR[name]):
        wanted = _BUILT_FOR[name]
        return f"{name} is installed, but it is for TensorFlow {wanted}, not {version}: {reason}; {see}"
    if find_spec(name) is not None:
        return (
            f"{name} is installed but does not load on TensorFlow {version}: {reason};"
            " source CANN's set_env.sh (ascend_env:)"
        )
    if find_spec(other) is not None:
        return f"{other} is installed, but it is for TensorFlow {_BUILT_FOR[other]}, not {version}; {see}"
    missing = f"TensorFlow {version} needs {name}, which is not installed"
    return f"{missing}; add it to PYTHONPATH, or give --backend cpu"


def _npu_bridge(version: str) -> Adapter:
    init = import_module("npu_bridge.npu_init")
    plugin = import_module("npu_bridge.estimator.npu.npu_plugin")
    managers = import_module("npu_bridge.estimator.npu.npu_loss_scale_manager")
    helper = import_module("npu_bridge.helper.helper")
    return _adapter("npu_bridge", version, init, helper, plugin, managers)


def _npu_device(version: str) -> Adapter:
    npu_device = import_module("npu_device")
    init = import_module("npu_device.compat.v1.npu_init")
    npu_device.compat.enable_v1()
    helper = import_module("npu_device.compat.v1.helper.helper")
    return _adapter("npu_device", version, init, helper, npu_device, None)


def _adapter(name: str, tensorflow: str, init: Any, helper: Any, plugin: Any, managers: Any) -> Adapter:
    return Adapter(
        name=name,
        version=str(getattr(helper, "version", "(unknown version)")),
        tensorflow=tensorflow,
        npu_ops=init.npu_ops,
        unary_ops=init.npu_unary_ops,
        hccl_ops=init.hccl_ops,
        util=init.util,
        hccl=import_module("hccl.manage.api"),
        float_status=helper.get_gen_ops(),
        inf_nan=getattr(plugin, "is_inf_nan_enabled", lambda: False),  # older adapters always saturate
        loss_scale=managers,
    )


def environment_problems(environ: Mapping[str, str]) -> list[str]:
    """List the variables with which the adapter would refuse to start, or train on each device alone."""
    problems = []
    table = [name for name in _TABLE if environ.get(name)]
    free = sorted(name for name in environ if name.startswith("CM_") and environ[name])
    if table and free:
        problems.append(
            f"{table[0]} and {free[0]} are both set: the adapter would use neither; unset one family"
        )
    if "RANK_TABLE_FILE" in table and environ.get("POD_NAME"):
        problems.append("POD_NAME is set: the adapter would look for a pod instead of RANK_ID; unset it")
    if not environ.get("JOB_ID"):
        problems.append("JOB_ID is not set; start with npu-launch, or export JOB_ID=1")
    device = environ.get("ASCEND_DEVICE_ID") or "0"  # an empty value is ignored: DEVICE_ID is used then
    if not device.isdigit():
        problems.append(f"ASCEND_DEVICE_ID is {device!r}; it must be a number")
    return problems


@contextlib.contextmanager
def told_in_a_line() -> Iterator[None]:
    """Turn TensorFlow's error of a device that does not open into one of a line. AdapterError: that one."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        text = (error.message or "").strip().split("\n")[0][:300] or type(error).__name__
        raise AdapterError(
            f"the NPU does not open: {text}; `npu-smi info` shows who uses it, ASCEND_DEVICE_ID chooses"
            " another, and --backend cpu needs none"
        ) from error


def stand_alone(environ: MutableMapping[str, str]) -> None:
    """Set what one process on one NPU needs; remove what would let it wait for the ranks of a job.

    The device stays that of ASCEND_DEVICE_ID, by default the first one.
    """
    for name in [*_TABLE, "POD_NAME", *(name for name in environ if name.startswith("CM_"))]:
        environ.pop(name, None)
    if not environ.get("JOB_ID"):
        environ["JOB_ID"] = "alone"
