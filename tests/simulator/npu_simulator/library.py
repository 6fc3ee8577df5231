"""The operations of the adapter's library, as tf.load_op_library would generate them.

Made from their definitions in adapter_names.json: the same names, parameters, types and attributes. In the
graph each one is a function of Python under the type of the gradient that the adapter registers for it.
"""

from __future__ import annotations

import inspect
import re
from typing import Any, Callable, NamedTuple

import tensorflow.compat.v1 as tf

from npu_simulator import kernels
from npu_simulator.names import BRANCH, TABLE, variant
from npu_simulator.refusals import refused

_REAL = "float, double, int32, uint8, int16, int8, int64, bfloat16, uint16, half, uint32, uint64"
_KINDS = {"int": int, "string": str, "float": float, "bool": bool}


class Argument(NamedTuple):
    """An input or output: its name, its type or the attribute that holds it."""

    name: str
    type: str
    many: bool  # `N * T`, or T a list of types

    @classmethod
    def parse(cls, text: str, attrs: dict[str, str]) -> Argument:
        name, _, kind = text.partition(":")
        number, times, rest = kind.partition("*")
        kind = (rest if times else number).strip()
        return cls(name.strip(), kind, bool(times) or attrs.get(kind, "").startswith("list("))


class Definition:
    """An operation as its REGISTER_OP says."""

    def __init__(self, name: str, form: dict[str, Any]) -> None:
        self.name, self.place = name, form["places"].get(BRANCH, "")
        self.attrs = dict(_split(text) for text in form["attrs"])
        self.inputs = [Argument.parse(text, self.attrs) for text in form["inputs"]]
        self.outputs = [Argument.parse(text, self.attrs) for text in form["outputs"]]
        inferred = {given.type for given in self.inputs} | ({"N"} if self._counted(form) else set())
        self.given = {attr: kind for attr, kind in self.attrs.items() if attr not in inferred}

    @staticmethod
    def _counted(form: dict[str, Any]) -> bool:
        return any("*" in text for text in form["inputs"])

    def signature(self) -> inspect.Signature:
        """Give the generated function's parameters: inputs, attributes without and with default, name."""
        required = [given.name for given in self.inputs]
        required += [attr for attr, kind in self.given.items() if "=" not in kind]
        optional = {attr: _default(kind) for attr, kind in self.given.items() if "=" in kind}
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [inspect.Parameter(name, kind) for name in required]
        parameters += [
            inspect.Parameter(name, kind, default=value) for name, value in {**optional, "name": None}.items()
        ]
        return inspect.Signature(parameters)

    def allowed(self, given: Argument) -> tuple[Any, ...]:
        """List the types that an argument may have; (): any."""
        text = self.attrs.get(given.type, given.type)
        if text.startswith("list("):
            return ()
        text = _REAL if text == "realnumbertype" else text.strip("{}")
        return tuple(tf.as_dtype(name.strip()) for name in text.split(","))


def load() -> Any:
    """Give the library's module: an attribute for each operation of the branch, in lower case."""
    return _Library()


class _Library:
    def __init__(self) -> None:
        self.definitions: dict[str, Definition] = {}
        for name, forms in TABLE["operations"].items():
            form = variant(forms)
            if form is not None:
                self.definitions[name] = Definition(name, form)
                setattr(self, snake(name), _function(self.definitions[name]))

    def __getattr__(self, name: str) -> Any:
        """Let a real package name the operations that it has beside those of the table, but not call them."""
        if name.startswith("__") or name in map(snake, TABLE["operations"]):
            raise AttributeError(f"{name}: not among the operations of {BRANCH}")

        def not_simulated(*args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError(f"{name}: this operation is not simulated")

        return not_simulated


def snake(name: str) -> str:
    """Give the name of an operation's function, as TensorFlow makes it: hcom_all_reduce, npu_init."""
    text = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", text).lower()


def _function(definition: Definition) -> Callable[..., Any]:
    signature = definition.signature()

    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return _apply(definition, bound.arguments)

    call.__name__ = call.__qualname__ = snake(definition.name)
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


def _apply(definition: Definition, arguments: dict[str, Any]) -> Any:
    attrs = {attr: _attribute(definition, attr, arguments[attr]) for attr in definition.given}
    inputs: list[Any] = []
    common: dict[str, Any] = {}  # attribute of a type -> the type that the first input of it has
    for given in definition.inputs:
        values = _tensors(definition, given, arguments[given.name], common.get(given.type))
        for value in values:
            _check(definition, given, value, common)
        inputs += values
    types = [common.get(out.type) or definition.allowed(out)[0] for out in definition.outputs if not out.many]
    if any(out.many for out in definition.outputs):
        types = [value.dtype for value in inputs]
    outputs = kernels.run(definition.name, inputs, attrs, types, arguments["name"])
    many = any(out.many for out in definition.outputs)
    if not definition.outputs:
        return outputs
    return outputs if many else outputs[0]


def _tensors(definition: Definition, given: Argument, value: Any, like: Any) -> list[Any]:
    if not given.many:
        known = isinstance(value, (tf.Tensor, tf.Variable))
        return [tf.convert_to_tensor(value, name=given.name, dtype=None if known else like)]
    if not isinstance(value, (list, tuple)):
        raise TypeError(
            f"Expected list for '{given.name}' argument to '{snake(definition.name)}' Op, not {value!r}."
        )
    return [tf.convert_to_tensor(one) for one in value]


def _check(definition: Definition, given: Argument, value: Any, common: dict[str, Any]) -> None:
    allowed, dtype = definition.allowed(given), value.dtype.base_dtype
    if allowed and dtype not in allowed:
        names = ", ".join(kind.name for kind in allowed)
        raise TypeError(
            f"{definition.name}: '{given.name}' is {dtype.name}, none of {names} [{definition.place}]"
        )
    if given.type in definition.attrs and not given.many and common.setdefault(given.type, dtype) != dtype:
        raise TypeError(
            f"{definition.name}: '{given.name}' is {dtype.name}, but another input of type {given.type}"
            f" is {common[given.type].name} [{definition.place}]"
        )


def _attribute(definition: Definition, attr: str, value: Any) -> Any:
    """Check a value as TensorFlow does when it makes the operation; None stands for the default."""
    kind, _, default = (part.strip() for part in definition.given[attr].partition("="))
    if value is None and default:
        return _default(definition.given[attr])
    if kind.startswith("{'"):
        choices = re.findall(r"'(\w+)'", kind)
        if value not in choices:
            raise ValueError(
                f"{definition.name}: {attr} is {value!r}, none of {choices} [{definition.place}]"
            )
        return value
    wanted = _KINDS.get(kind, object)
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise TypeError(f"{definition.name}: {attr} is {value!r}, no {kind} [{definition.place}]")
    if attr == "rank_size" and value <= 0:
        raise refused("rank_size_not_positive", f"rank_size is {value}", ValueError)
    return value


def _split(text: str) -> tuple[str, str]:
    name, _, kind = text.partition(":")
    return name.strip(), kind.strip()


def _default(kind: str) -> Any:
    text = kind.partition("=")[2].strip()
    return int(text) if re.fullmatch(r"-?\d+", text) else text
