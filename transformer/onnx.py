"""A model as an ONNX graph: written, quantised, run. Its packages are optional."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from files.atomic import atomic_open
from files.errors import UserError
from transformer.configuration import BertConfig
from transformer.encoder import EncoderOutput
from transformer.lengths import LengthConfig
from transformer.modeling import BertPreTrainedModel

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
TO_RUN, TO_WRITE = ("onnxruntime",), ("onnx", "onnxruntime", "onnxscript")


def check_packages(names: tuple[str, ...], what: str) -> None:
    """Refuse what cannot be done without a package that is missing.

    Raises:
        UserError: it says what to install.
    """
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{what}: needs {', '.join(missing)}; pip install {' '.join(names)}")


class _Logits(nn.Module):
    """The model as others call it: three tensors in, the logits out."""

    def __init__(self, model: BertPreTrainedModel, lengths: LengthConfig | None) -> None:
        super().__init__()
        self.model, self.lengths = model, lengths

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor) -> Tensor:
        inputs = input_ids, token_type_ids, attention_mask
        return self.model(*inputs, (), False, self.lengths).output


def write_onnx(model: BertPreTrainedModel, path: Path, lengths: LengthConfig | None = None) -> None:
    """Write a model in evaluation mode as a graph of any batch size and length.

    Inputs: int64 [batch, length] each, named as in `INPUTS`; output: `logits`, float32 [batch, C], or of a
    model that answers questions [batch, length, 2].

    Args:
        lengths: how many tokens each layer of the graph passes on.
    """
    shape = (2, min(8, model.config.max_length))
    # Three tensors: one that is given twice would become one input.
    example = tuple(torch.ones(shape, dtype=torch.long) for _ in INPUTS)
    axes = {0: "batch", 1: "length"}
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _Logits(model, lengths).eval(),
                example,
                input_names=INPUTS,
                output_names=["logits"],
                dynamic_shapes=(axes, axes, axes),
                dynamo=True,
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    graph = program.model_proto
    for part in (graph, graph.graph, *graph.functions):
        del part.metadata_props[:]
        # Each node holds the lines of code it comes from, with this machine's paths.
        for node in getattr(part, "node", ()):
            del node.metadata_props[:]
    with atomic_open(path, "wb") as file:
        file.write(graph.SerializeToString())


def write_int8(graph: Path, path: Path) -> None:
    """Write a graph with its weight matrices and embeddings in 8 bits.

    What is multiplied with them is brought to 8 bits as it comes ("dynamic"), so no data are needed.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(graph)
    del model.graph.value_info[:]  # the exporter's shapes are in the way of the quantiser's own
    partial = path.with_name(f".{path.name}.part")
    level = logging.getLogger().level
    logging.getLogger().setLevel(logging.ERROR)  # it advises a step that brings nothing here
    try:
        # Unsigned: signed weights overflow on processors without VNNI.
        quantize_dynamic(model, partial, weight_type=QuantType.QUInt8)
        os.replace(partial, path)
    finally:
        logging.getLogger().setLevel(level)
        partial.unlink(missing_ok=True)


class OnnxModel:
    """A graph that is called as the model it was made from."""

    def __init__(self, path: str | os.PathLike, config: BertConfig) -> None:
        """Load it for the CPU, with as many threads as torch has.

        Args:
            config: of the model it was made from.

        Raises:
            UserError: onnxruntime is not there, or the file is not such a graph.
        """
        check_packages(TO_RUN, str(path))
        self.config = config
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors
        try:
            self._session = onnxruntime.InferenceSession(
                os.fspath(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # of kinds of its own
            reason = str(error).splitlines()[0]
            raise UserError(f"{path}: cannot be read as an ONNX model ({reason})") from None
        names = {given.name for given in self._session.get_inputs()}
        if names != set(INPUTS):
            raise UserError(f"{path}: takes {sorted(names)}; expected {sorted(INPUTS)}")

    def __call__(self, **batch: Tensor) -> EncoderOutput:
        """Return the logits; inputs int64 [B, L] by name. A graph gives no layers."""
        inputs = {name: tensor.cpu().numpy() for name, tensor in batch.items()}
        (logits,) = self._session.run(["logits"], inputs)
        return EncoderOutput(torch.from_numpy(logits))
