"""The graph of BERT with a span head in ONNX, built node by node from a configuration and its weights.

Inputs int64 [B, L]: input_ids, attention_mask, token_type_ids; outputs float32 [B, L]: start_logits,
end_logits. These are the names of transformers and optimum: programs for their exports run this one.

Opset 11: ATC of CANN 5.0.4 reads 9 to 13, and that of later versions still reads 11 (hiascend.com, operator
lists for ONNX); onnxruntime 1.14 and newer read it. IR version 6, which came with opset 11. The forms of
LayerNorm, gelu and attention are those that onnxruntime and CANN recognise and compute in one piece.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Mapping, Sequence, Tuple

import numpy as np

from bert import names
from bert.config import BertConfig

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

Weights = Mapping[str, np.ndarray]
Shape = Tuple[int, int]  # rows, columns

OPSET, IR_VERSION = 11, 6
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUTS = ("start_logits", "end_logits")
# Of a rounded weight: 7 bits, as processors with AVX2 and without VNNI add two products of bytes in 16 bits.
# The eighth bit changes little: the rounding of the activations is the larger part of the difference.
_LARGEST = 63
_FAR = -10000.0  # added to the scores of positions that must not be attended to, as in bert.model


def build(
    config: BertConfig, weights: Weights, gelu: str = "exact", shape: Shape | None = None, int8: bool = False
) -> ModelProto:
    """Build the model. Weights by Google's names (bert.names.shapes); gelu: exact or tanh.

    shape: fixed rows and columns; None: any. int8: the matrices of the encoder as whole numbers
    (bert.onnx.quantised).
    """
    from onnx import TensorProto, helper

    graph = _Graph(config, weights, gelu, shape, int8)
    graph.span_logits()
    sizes: Sequence[Any] = shape or ("batch", "sequence")
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, sizes) for name in INPUTS]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name in OUTPUTS]
    made = helper.make_graph(graph.nodes, "bert_span", inputs, outputs, graph.tensors)
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(made, producer_name="npu-launch", ir_version=IR_VERSION, opset_imports=opsets)
    helper.set_model_props(model, {"precision": "int8" if int8 else "fp32", "gelu": gelu})
    return model


def quantised(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Round a matrix [I, O] to int8, each column by its largest entry: (int8 [I, O], float32 [O])."""
    scale = np.maximum(np.abs(kernel).max(0), np.finfo(np.float32).tiny) / _LARGEST
    return np.rint(kernel / scale).astype(np.int8), scale.astype(np.float32)


class _Graph:
    """The nodes and tensors so far; every method adds some and returns the name of its result."""

    def __init__(
        self, config: BertConfig, weights: Weights, gelu: str, shape: Shape | None, int8: bool
    ) -> None:
        self.config, self.weights, self.shape, self.int8 = config, weights, shape, int8
        self.gelu = self._tanh_gelu if gelu == "tanh" else self._exact_gelu
        self.nodes: list[NodeProto] = []
        self.tensors: list[TensorProto] = []
        self._held: set[str] = set()
        self._rounded: set[str] = set()  # what is there in 8 bits

    def span_logits(self) -> None:
        """Add everything from the inputs to the outputs."""
        hidden, bias = self._embed(), self._attention_bias()
        for layer in range(self.config.num_hidden_layers):
            hidden = self._layer(f"bert/encoder/layer_{layer}/", hidden, bias)
        weights, shift = (self.weights[name] for name in names.HEAD)
        product = self._node("MatMul", "cls/squad/product", hidden, self._tensor(names.HEAD[0], weights.T))
        logits = self._node("Add", "cls/squad/logits", product, self._tensor(names.HEAD[1], shift))
        sides = [f"cls/squad/{name}" for name in OUTPUTS]
        self._append("Split", "cls/squad/split", [logits], sides, axis=2, split=[1, 1])
        for side, output in zip(sides, OUTPUTS):
            self._append("Squeeze", side + "/squeeze", [side], [output], axes=[2])

    def _embed(self) -> str:
        prefix = "bert/embeddings/"
        words = self._words(prefix + "word_embeddings")
        kinds = self._node(
            "Gather", prefix + "types", self._weight(prefix + "token_type_embeddings"), INPUTS[2]
        )
        both = self._node("Add", prefix + "words_types", words, kinds)
        return self._norm(prefix, self._node("Add", prefix + "sum", both, self._positions(prefix)))

    def _words(self, name: str) -> str:
        if not self.int8:
            return self._node("Gather", name + "/rows", self._weight(name), INPUTS[0])
        whole, scale = quantised(self.weights[name].T)  # a scale for each word
        rows = self._node("Gather", name + "/whole_rows", self._tensor(name + "/whole", whole.T), INPUTS[0])
        rows = self._node("Cast", name + "/float", rows, to=1)
        scales = self._node(
            "Gather", name + "/scales", self._tensor(name + "/scale", scale[:, None]), INPUTS[0]
        )
        return self._node("Mul", name + "/rows", rows, scales)

    def _positions(self, prefix: str) -> str:
        """Take the first L rows of the table [P, H]; they are added to each row of the batch."""
        name = prefix + "position_embeddings"
        if self.shape:
            return self._tensor(name, self.weights[name][: self.shape[1]])
        sizes = self._node("Shape", prefix + "sizes", INPUTS[0])
        first, last, axis = (self._tensor(f"const/index_{n}", np.array([n], np.int64)) for n in (0, 2, 1))
        columns = self._node("Slice", prefix + "columns", sizes, axis, last)
        return self._node("Slice", prefix + "positions", self._weight(name), first, columns, first)

    def _attention_bias(self) -> str:
        """Compute 0 where a token may be attended to, else _FAR: [B, 1, 1, L]."""
        mask = self._node("Unsqueeze", "mask/heads", INPUTS[1], axes=[1])
        mask = self._node("Unsqueeze", "mask/rows", mask, axes=[2])
        mask = self._node("Cast", "mask/float", mask, to=1)
        far = self._node("Sub", "mask/outside", self._number(1.0), mask)
        return self._node("Mul", "mask/bias", far, self._number(_FAR))

    def _layer(self, prefix: str, hidden: str, bias: str) -> str:
        attended = self._attend(prefix + "attention/self/", hidden, bias)
        out = self._dense(prefix + "attention/output/dense/", attended)
        out = self._node("Add", prefix + "attention/output/sum", out, hidden)
        hidden = self._norm(prefix + "attention/output/", out)
        inner = self.gelu(prefix + "intermediate/", self._dense(prefix + "intermediate/dense/", hidden))
        out = self._dense(prefix + "output/dense/", inner)
        return self._norm(prefix + "output/", self._node("Add", prefix + "output/sum", out, hidden))

    def _attend(self, prefix: str, hidden: str, bias: str) -> str:
        heads, size = self.config.num_attention_heads, self.config.hidden_size
        apart = self._tensor("const/heads", np.array([0, 0, heads, size // heads], np.int64))
        joined = self._tensor("const/joined", np.array([0, 0, size], np.int64))

        def split(name: str, order: Sequence[int]) -> str:
            projected = self._dense(prefix + name + "/", hidden)
            parts = self._node("Reshape", prefix + name + "/heads", projected, apart)
            return self._node("Transpose", prefix + name + "/turned", parts, perm=order)

        query, key, value = (
            split("query", (0, 2, 1, 3)),
            split("key", (0, 2, 3, 1)),
            split("value", (0, 2, 1, 3)),
        )
        scores = self._node("MatMul", prefix + "products", query, key)
        scores = self._node("Div", prefix + "scaled", scores, self._number(math.sqrt(size // heads)))
        scores = self._node("Add", prefix + "scores", scores, bias)
        shares = self._node("Softmax", prefix + "shares", scores, axis=3)
        mixed = self._node("MatMul", prefix + "mixed", shares, value)
        mixed = self._node("Transpose", prefix + "mixed/turned", mixed, perm=(0, 2, 1, 3))
        return self._node("Reshape", prefix + "context", mixed, joined)

    def _dense(self, prefix: str, x: str) -> str:
        if self.int8:
            return self._whole_dense(prefix, x)
        product = self._node("MatMul", prefix + "product", x, self._weight(prefix + "kernel"))
        return self._node("Add", prefix + "sum", product, self._weight(prefix + "bias"))

    def _whole_dense(self, prefix: str, x: str) -> str:
        """Multiply whole numbers: x rounded to 8 bits by its range in this batch, the weights beforehand."""
        whole, scale = quantised(self.weights[prefix + "kernel"])
        inputs = [f"{x}/{part}" for part in ("whole", "scale", "zero")]
        if x not in self._rounded:
            self._rounded.add(x)
            self._append("DynamicQuantizeLinear", x + "/rounded", [x], inputs)
        kernel = self._tensor(prefix + "kernel/whole", whole)
        product = self._node("MatMulInteger", prefix + "whole", inputs[0], kernel, inputs[2])
        product = self._node("Cast", prefix + "float", product, to=1)
        scales = self._node("Mul", prefix + "scales", inputs[1], self._tensor(prefix + "kernel/scale", scale))
        product = self._node("Mul", prefix + "product", product, scales)
        return self._node("Add", prefix + "sum", product, self._weight(prefix + "bias"))

    def _norm(self, prefix: str, x: str) -> str:
        prefix += "LayerNorm/"
        away = self._node("Sub", prefix + "away", x, self._mean(prefix + "mean", x))
        square = self._node("Pow", prefix + "square", away, self._number(2.0))
        variance = self._mean(prefix + "variance", square)
        shifted = self._node("Add", prefix + "shifted", variance, self._number(self.config.layer_norm_eps))
        scaled = self._node("Div", prefix + "scaled", away, self._node("Sqrt", prefix + "deviation", shifted))
        scaled = self._node("Mul", prefix + "product", scaled, self._weight(prefix + "gamma"))
        return self._node("Add", prefix + "sum", scaled, self._weight(prefix + "beta"))

    def _mean(self, name: str, x: str) -> str:
        return self._node("ReduceMean", name, x, axes=[2], keepdims=1)

    def _exact_gelu(self, prefix: str, x: str) -> str:
        """x * (1 + erf(x / sqrt 2)) / 2."""
        prefix += "gelu/"
        erf = self._node(
            "Erf", prefix + "erf", self._node("Div", prefix + "x", x, self._number(math.sqrt(2)))
        )
        product = self._node(
            "Mul", prefix + "product", x, self._node("Add", prefix + "one", erf, self._number(1))
        )
        return self._node("Mul", prefix + "half", product, self._number(0.5))

    def _tanh_gelu(self, prefix: str, x: str) -> str:
        """x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))."""
        prefix += "gelu/"
        cube = self._node("Pow", prefix + "cube", x, self._number(3.0))
        cube = self._node("Mul", prefix + "small", cube, self._number(0.044715))
        inner = self._node("Add", prefix + "inner", x, cube)
        inner = self._node("Mul", prefix + "wide", inner, self._number(math.sqrt(2.0 / math.pi)))
        one = self._node("Add", prefix + "one", self._node("Tanh", prefix + "tanh", inner), self._number(1))
        half = self._node("Mul", prefix + "half", x, self._number(0.5))
        return self._node("Mul", prefix + "product", half, one)

    def _node(self, kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Add a node of one result, which has the node's name."""
        self._append(kind, name, inputs, [name], **attributes)
        return name

    def _append(
        self, kind: str, name: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
    ) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, list(inputs), list(outputs), name, **attributes))

    def _weight(self, name: str) -> str:
        return self._tensor(name, self.weights[name])

    def _number(self, value: float) -> str:
        return self._tensor(f"const/{value:.9g}", np.array(value, np.float32))

    def _tensor(self, name: str, value: np.ndarray) -> str:
        """Hold a tensor under this name; the second time it is there already."""
        from onnx import numpy_helper

        if name not in self._held:
            self._held.add(name)
            self.tensors.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name
