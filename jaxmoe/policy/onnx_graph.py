"""A policy as an ONNX graph, for phones, browsers and services that have an ONNX runtime.

The graph takes `observations`, float32 of `[batch, inputs]`, and gives `preferences`, float32 of `[batch, actions]`,
those that are not legal masked, and `actions`, int64 of `[batch]`. Its metadata hold the contract, as JSON, under
`jaxmoe.contract`.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jaxmoe.errors import InputError
from jaxmoe.policy.contract import Contract, Network
from jaxmoe.policy.legal import LEAST, Mask, mask_of
from jaxmoe.policy.tensors import Tensors, check_weights

METADATA = "jaxmoe.contract"
OPSET, IR_VERSION = 17, 8  # what runtimes of 2022 and newer read
_SPARE_BYTES = 2**20  # of a file, for names and the contract
_FLOAT = 1  # TensorProto.FLOAT
_GELU_CONSTANTS = {"half": 0.5, "one": 1.0, "cubic": 0.044715, "root": float(np.sqrt(2 / np.pi))}


def to_onnx(contract: Contract, tensors: Tensors) -> bytes:
    """The content of a file."""
    return _model(contract, tensors).SerializeToString()


def from_onnx(content: bytes, contract: Contract, source: str) -> Callable[[NDArray[np.float32]], NDArray[np.int64]]:
    """The graph in a file, run by onnxruntime: actions of observations.

    A graph may loop, or want any memory, so only one that `to_onnx` writes for the contract and the weights is run.

    Raises:
        InputError: it is no such graph, names other files, or takes or gives something else than the contract says.
    """
    onnx, runtime = _library("onnx"), _library("onnxruntime")
    devices = len(contract.experts) * contract.num_replicas
    numbers = contract.network.size() + devices * contract.network.outputs
    most = 4 * numbers + 2 * len(json.dumps(contract.to_json())) + _SPARE_BYTES
    if len(content) > most:
        raise InputError(f"{source} has {len(content):,} bytes, and a graph of its contract at most {most:,}")
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf has its own
        raise InputError(f"{source} is not an ONNX graph ({error})") from None
    if any(each.data_location == onnx.TensorProto.EXTERNAL for each in model.graph.initializer):
        raise InputError(f"{source} has weights in other files, which a policy has not")
    tensors = _weights(model, contract.network.shapes())
    ours = None if tensors is None else _model(contract, tensors)
    if tensors is None or ours is None or (ours.graph, *ours.opset_import) != (model.graph, *model.opset_import):
        raise InputError(f"{source} does not take, compute and give what jaxmoe exports for its contract")
    check_weights(tensors, contract.network.shapes(), contract.weights_sha256, source)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(ours.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda observations: session.run(["actions"], {"observations": observations})[0]


def _model(contract: Contract, tensors: Tensors) -> Any:
    """The graph with its metadata, as the library holds it."""
    onnx = _library("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    network, mask = contract.network, mask_of(contract)
    constants = {name: np.asarray(tensors[name], np.float32) for name in network.shapes()}
    nodes = _network(helper.make_node, network, "preferences" if mask is None else "unmasked")
    if network.activation == "gelu":
        constants |= {name: np.array(number, np.float32) for name, number in _GELU_CONSTANTS.items()}
    if mask is not None:
        nodes += _masking(helper.make_node)
        constants |= _mask_constants(mask)
    nodes.append(helper.make_node("ArgMax", ["preferences"], ["actions"], axis=1, keepdims=0, name="ArgMax"))
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info("observations", kinds.FLOAT, ["batch", network.inputs])],
        [
            helper.make_tensor_value_info("preferences", kinds.FLOAT, ["batch", network.outputs]),
            helper.make_tensor_value_info("actions", kinds.INT64, ["batch"]),
        ],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="jaxmoe"
    )
    helper.set_model_props(model, {METADATA: json.dumps(contract.to_json(), sort_keys=True)})
    onnx.checker.check_model(model, full_check=True)
    return model


def _weights(model: Any, shapes: Mapping[str, tuple[int, ...]]) -> Tensors | None:
    """The weights in a graph, if each is there in its shape."""
    held = {each.name: each for each in model.graph.initializer}
    if any(
        name not in held or tuple(held[name].dims) != shape or len(held[name].raw_data) != 4 * math.prod(shape)
        for name, shape in shapes.items()
    ):
        return None
    return {name: np.frombuffer(held[name].raw_data, "<f4").reshape(shape) for name, shape in shapes.items()}


def _library(name: str) -> Any:
    """A package that comes with the extra `onnx`."""
    try:
        return __import__(name)
    except ImportError:
        raise InputError(f"ONNX needs the package {name}: pip install 'jaxmoe[onnx]'") from None


Node = Callable[..., Any]


def _network(node: Node, network: Network, output: str) -> list[Any]:
    nodes, value = [], "observations"
    for layer in range(len(network.hidden) + 1):
        last = layer == len(network.hidden)
        target = output if last else f"layer{layer}"
        parameters = [f"layer{layer}/kernel", f"layer{layer}/bias"]
        nodes.append(node("Gemm", [value, *parameters], [target], name=f"Gemm{layer}"))
        value = f"hidden{layer}"
        if not last:
            nodes += _ACTIVATIONS[network.activation](node, target, value)
    return nodes


def _masking(node: Node) -> list[Any]:
    """`jaxmoe.policy.legal.masked`, step by step."""
    steps = [
        ("Slice", ["observations", "mask/begin", "mask/end", "mask/axis"], "mask/available"),
        ("Greater", ["mask/available", "mask/zero"], "mask/up"),
        ("Not", ["mask/up"], "mask/down"),
        ("MatMul", ["mask/down_numbers", "mask/asked"], "mask/asked_in_vain"),
        ("Greater", ["mask/asked_in_vain", "mask/zero"], "mask/illegal"),
        ("Where", ["mask/illegal", "mask/least", "unmasked"], "preferences"),
    ]
    nodes = [node(operator, inputs, [target], name=target) for operator, inputs, target in steps]
    nodes.insert(3, node("Cast", ["mask/down"], ["mask/down_numbers"], name="mask/down_numbers", to=_FLOAT))
    return nodes


def _mask_constants(mask: Mask) -> dict[str, NDArray[Any]]:
    positions = {"begin": mask.available.start, "end": mask.available.stop, "axis": 1}
    return {
        **{f"mask/{name}": np.array([number], np.int64) for name, number in positions.items()},
        "mask/zero": np.array(0, np.float32),
        "mask/least": np.array(LEAST),
        "mask/asked": mask.asked,
    }


def _single(operator: str) -> Callable[[Node, str, str], list[Any]]:
    return lambda node, value, target: [node(operator, [value], [target], name=target)]


def _swish(node: Node, value: str, target: str) -> list[Any]:
    return [
        node("Sigmoid", [value], [f"{target}/gate"], name=f"{target}/gate"),
        node("Mul", [value, f"{target}/gate"], [target], name=target),
    ]


def _gelu(node: Node, value: str, target: str) -> list[Any]:
    """`0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`; the operator of that name came with opset 20."""
    steps = [
        ("Mul", [value, value], "square"),
        ("Mul", [f"{target}/square", value], "cube"),
        ("Mul", [f"{target}/cube", "cubic"], "bend"),
        ("Add", [value, f"{target}/bend"], "sum"),
        ("Mul", [f"{target}/sum", "root"], "argument"),
        ("Tanh", [f"{target}/argument"], "tanh"),
        ("Add", [f"{target}/tanh", "one"], "gate"),
        ("Mul", [value, "half"], "halved"),
    ]
    nodes = [node(operator, inputs, [f"{target}/{name}"], name=f"{target}/{name}") for operator, inputs, name in steps]
    return [*nodes, node("Mul", [f"{target}/halved", f"{target}/gate"], [target], name=target)]


_ACTIVATIONS: dict[str, Callable[[Node, str, str], list[Any]]] = {
    "tanh": _single("Tanh"),
    "relu": _single("Relu"),
    "gelu": _gelu,
    "swish": _swish,
}
