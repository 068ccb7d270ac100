"""ONNX files. A file knows shapes and nothing of bands or units, so both are asked for."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fm.card import Card
from fm.errors import FMError, UsageError
from fm.files import sha256_file
from fm.foreign.onnx_files import parsed as parsed_file
from probes.backbones.adapter import MODALITY, Adapter, Intake, Output
from probes.backbones.of_timm import parsed


@dataclass
class _Sessions:
    """One session a process: its threads do not survive a fork, and it cannot be copied."""

    known: dict[int, Any] = field(default_factory=dict)

    def __deepcopy__(self, memo: dict) -> "_Sessions":
        return _Sessions()

    def get(self, network: "OnnxNetwork") -> Any:
        pid = os.getpid()
        if pid not in self.known:
            self.known[pid] = network.open()
        return self.known[pid]


class OnnxNetwork(nn.Module):
    """The bytes of a file, which are its state, and what runs them.

    Args:
        content: the file.
        where: for errors.
        output: name of the output to take; None for the first.
    """

    content: Tensor

    def __init__(self, content: bytes, where: str, output: str | None) -> None:
        super().__init__()
        self.register_buffer("content", torch.from_numpy(np.frombuffer(content, np.uint8).copy()))
        self.where, self.output = where, output
        self.sessions = _Sessions()

    def open(self) -> Any:
        """Start onnxruntime on the CPU.

        Raises:
            UsageError: it is not installed.
            FMError: the file cannot be run.
        """
        try:
            import onnxruntime
        except ImportError:
            raise UsageError(
                f"{self.where}: onnxruntime is missing; install it with `pip install eofm[onnx]`"
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        try:
            return onnxruntime.InferenceSession(
                self.content.numpy().tobytes(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's own classes share no base of their own
            line = str(error).splitlines()[0]
            raise FMError(f"{self.where}: onnxruntime cannot run it ({line})") from None


def run(network: nn.Module, image: Tensor) -> Output:
    """Encode with an ONNX file.

    Raises:
        UsageError: gradients are wanted.
    """
    assert isinstance(network, OnnxNetwork)
    if torch.is_grad_enabled():
        raise UsageError(
            f"{network.where}: an ONNX file cannot be trained; choose a protocol on frozen features"
        )
    session = network.sessions.get(network)
    given = session.get_inputs()[0]
    whole = np.ascontiguousarray(image.float().cpu().numpy())
    step = given.shape[0] if isinstance(given.shape[0], int) else len(whole)
    parts = []
    for start in range(0, len(whole), step):
        part = whole[start : start + step]
        short = step - len(part)
        if short:  # a file of a fixed batch
            part = np.concatenate([part, np.repeat(part[-1:], short, 0)])
        made = session.run([network.output], {given.name: part})[0]
        parts.append(made[: step - short])
    made = torch.from_numpy(np.concatenate(parts)).to(image.device)
    if made.ndim == 4:
        tokens = made.flatten(2).mT
        return Output(tokens.mean(1), tokens, (made.shape[-2], made.shape[-1]))
    return Output(made)


def load_onnx(name: str, bands: str | None) -> Adapter:
    """Load an ONNX file that takes one float32 image `[B, C, H, W]`.

    Args:
        name: the file; `#OUTPUT` after it names an output of shape `[B, D]` or `[B, D, h, w]`,
            the first when left out.
        bands: of its channels, `SENSOR:BAND,BAND`.

    Raises:
        UsageError: onnxruntime is missing, bands are not named, an unknown output.
        FMError: not such a file, or one that reaches outside of itself.
    """
    text, _, output = name.partition("#")
    path = Path(text)
    if not path.is_file():
        raise FMError(f"{path}: no such file")
    if bands is None:
        raise UsageError(
            f"onnx:{path}: the file cannot say its bands; give --bands SENSOR:BAND,BAND in the "
            f"order of its channels, such as rgb:R,G,B"
        )
    parsed_file(path)
    network = OnnxNetwork(path.read_bytes(), str(path), None)
    session = network.sessions.get(network)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type != "tensor(float)":
        found = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
        raise FMError(f"{path}: takes {found}; a backbone takes one float image [B, C, H, W]")
    chosen = next((o for o in outputs if not output or o.name == output), None)
    if chosen is None or len(chosen.shape) not in (2, 4):
        found = ", ".join(f"{o.name} {o.shape}" for o in outputs)
        raise UsageError(
            f"onnx:{path}: no output {output or ''} of shape [B, D] or [B, D, h, w]; it has "
            f"{found}: name one after #"
        )
    network.output = chosen.name
    channels = parsed(bands)
    count, height, width = inputs[0].shape[1:]
    if isinstance(count, int) and count != len(channels):
        raise UsageError(f"onnx:{path}: {len(channels)} bands are named, the file takes {count}")
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    doubt = f"channels are as declared by --bands {bands}; an ONNX file cannot confirm them"
    intake = Intake(channels, size=size, fixed=size is not None, declared=bands, doubt=doubt)
    deep = chosen.shape[1]
    if not isinstance(deep, int):
        side = size or (224, 224)
        with torch.inference_mode():
            deep = run(network, torch.zeros(1, len(channels), *side)).pooled.shape[1]
    digest = sha256_file(path)
    card = Card(
        name=path.stem,
        architecture={"name": f"onnx:{path.name}", "output": chosen.name},
        bands={MODALITY: channels},
        normalisation={},
        scaling={},
        parent=f"{path.name}, sha256 {digest}",
        weights_sha256=digest,
    )
    return Adapter(network, run, intake, width=deep, card=card, source=f"onnx:{name}")
