"""The network in PyTorch: standardised minutes in, two numbers a horizon out."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch

from domain.models.lstm_model import INPUT_LIMIT, Model, Scaling, Shape
from domain.models.model import BadSettingsError, Predictions
from schemas.frames import Float32

#: Windows that are predicted at a time.
_PIECE = 500
#: What cuBLAS needs to be deterministic.
_WORKSPACE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}


class Network:
    """The layers of one network.

    Parameters
    ----------
    shape
        What it is made of.
    dropout
        Share left out while learning.
    """

    def __init__(self, shape: Shape, *, dropout: float = 0.0) -> None:
        self.shape = shape
        self.parts = torch.nn.ModuleDict(
            {
                "lstm": torch.nn.LSTM(
                    shape.inputs,
                    shape.hidden_size,
                    shape.layers,
                    dropout=dropout if shape.layers > 1 else 0.0,
                ),
                "heads": torch.nn.Linear(shape.readout, shape.heads),
            }
        )
        if shape.attention:
            self.parts["query"] = torch.nn.Linear(shape.hidden_size, shape.hidden_size, bias=False)
        self._dropout = torch.nn.Dropout(dropout)
        # it begins with "no change, one half", and moves away only as far as the rows say
        torch.nn.init.zeros_(self.parts["heads"].weight)
        torch.nn.init.zeros_(self.parts["heads"].bias)

    def learns(self, learning: bool) -> None:
        """Switch between learning, where parts are left out at random, and saying."""
        self.parts.train(learning)
        self._dropout.train(learning)

    def __call__(self, minutes: Any) -> Any:
        """Map standardised minutes of shape (window, rows, inputs) to (rows, heads)."""
        states, _ = self.parts["lstm"](minutes)
        last = states[-1]
        if self.shape.attention:
            asked = self.parts["query"](last) / math.sqrt(self.shape.hidden_size)
            weights = torch.softmax((states * asked).sum(dim=2), dim=0)
            last = torch.cat([last, (states * weights[:, :, None]).sum(dim=0)], dim=1)
        return self.parts["heads"](self._dropout(last))

    def weights(self) -> dict[str, Float32]:
        """Copy the weights out."""
        return {
            name: np.array(values.detach().cpu().numpy(), np.float32)
            for name, values in self.parts.state_dict().items()
        }

    def load(self, weights: Mapping[str, Float32]) -> None:
        """Copy weights in."""
        self.parts.load_state_dict({name: torch.from_numpy(values) for name, values in weights.items()})


def standardise(minutes: Any, scaling: Scaling, *, missing_share: bool) -> Any:
    """Bring minutes of shape (..., features) into the units of the network; what is missing becomes 0."""
    missing = torch.isnan(minutes)
    scaled = (minutes - _like(scaling.centre, minutes)) * _like(scaling.scale, minutes)
    # asked again: an infinite value of a hidden feature, times 0, is no number either
    scaled = torch.where(torch.isnan(scaled), torch.zeros_like(scaled), scaled)
    scaled = scaled.clamp(-INPUT_LIMIT, INPUT_LIMIT)
    if not missing_share:
        return scaled
    share = missing.to(scaled.dtype) @ _like(scaling.shares, minutes)[:, None]
    return torch.cat([scaled, share], dim=-1)


def _like(values: Float32, other: Any) -> Any:
    return torch.from_numpy(values).to(other.device)


def predict(model: Model, windows: Float32) -> Predictions:
    """Predict windows of shape (rows, minutes, features) on the processor."""
    network = Network(model.shape)
    network.load(model.weights)
    network.learns(False)
    said = [np.empty((0, model.shape.heads), np.float32)]
    with torch.inference_mode():
        for first in range(0, len(windows), _PIECE):
            piece = torch.from_numpy(np.ascontiguousarray(windows[first : first + _PIECE], np.float32))
            minutes = standardise(piece, model.scaling, missing_share=model.shape.missing_share)
            said.append(network(minutes.transpose(0, 1)).numpy())
    change, rise = np.split(np.concatenate(said), 2, axis=1)
    return Predictions(change * model.scaling.deviation, rise)


def device_of(wanted: str) -> str:
    """Choose where to learn.

    Raises
    ------
    BadSettingsError
        If a GPU is asked for and PyTorch sees none.
    """
    there = bool(torch.cuda.is_available())
    if wanted == "cuda" and not there:
        raise BadSettingsError("lstm: device = 'cuda', but PyTorch sees no GPU here; use 'auto' or 'cpu'")
    return "cuda" if there and wanted != "cpu" else "cpu"


@contextmanager
def repeatable(*, device: str, threads: int) -> Iterator[None]:
    """Make PyTorch do the same every time inside of the block, and leave its global state as it was found.

    Inside: a fixed number of threads, deterministic algorithms, and oneDNN off, whose LSTM is slower than
    PyTorch's own for networks this small. The global random state is put back afterwards.
    """
    before = (
        torch.get_num_threads(),
        torch.get_deterministic_debug_mode(),
        torch.backends.mkldnn.enabled,
        torch.utils.deterministic.fill_uninitialized_memory,
    )
    variables = {name: os.environ.get(name) for name in _WORKSPACE} if device == "cuda" else {}
    with ExitStack() as stack:
        processors = range(torch.cuda.device_count()) if device == "cuda" else ()
        stack.enter_context(torch.random.fork_rng(devices=list(processors)))
        if device == "cuda":
            stack.enter_context(
                torch.backends.cudnn.flags(
                    enabled=True, benchmark=False, deterministic=True, allow_tf32=False
                )
            )
            os.environ.update(_WORKSPACE)
        torch.set_num_threads(threads)
        # not by use_deterministic_algorithms, which loads a compiler for seconds
        torch.set_deterministic_debug_mode("error")
        torch.backends.mkldnn.enabled = False
        # fresh memory is written before it is read
        torch.utils.deterministic.fill_uninitialized_memory = False
        try:
            yield
        finally:
            torch.set_num_threads(before[0])
            torch.set_deterministic_debug_mode(before[1])
            torch.backends.mkldnn.enabled = before[2]
            torch.utils.deterministic.fill_uninitialized_memory = before[3]
            for name, value in variables.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
