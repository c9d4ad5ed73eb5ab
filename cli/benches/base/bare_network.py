"""The same network by PyTorch alone: an ordinary loop over epochs and batches."""

from __future__ import annotations

from typing import Any

import numpy as np

from domain.models.lstm_settings import LSTMSettings
from domain.models.model import TrainingRows
from schemas.frames import MINUTE_MS, Float32, Int64

#: Standardised values are kept this close to 0.
_FARTHEST = 5.0
_QUARTILES = 1.349
_LONGEST_GRADIENT = 1.0
_ASKED_AT_ONCE = 1_000


def fit(
    vectors: Float32, train: TrainingRows, validation: TrainingRows, *, settings: LSTMSettings
) -> list[float]:
    """Train for as many epochs as the settings allow; gives the loss on the validation rows after each.

    Parameters
    ----------
    vectors
        Of every minute of one symbol, from minute 0 on, none absent.
    train, validation
        Rows of it.
    """
    import torch

    # as the family does it: for a network so small, oneDNN is slower than PyTorch's own LSTM
    before = torch.get_num_threads(), torch.backends.mkldnn.enabled
    torch.set_num_threads(settings.threads)
    torch.backends.mkldnn.enabled = False
    try:
        return _loop(torch.from_numpy(_inputs(vectors, train)), train, validation, settings)
    finally:
        torch.set_num_threads(before[0])
        torch.backends.mkldnn.enabled = before[1]


def _inputs(vectors: Float32, train: TrainingRows) -> Float32:
    """Standardise all minutes by the rows that are learned from, the share that is missing beside them."""
    low, middle, high = np.nanquantile(train.vectors, (0.25, 0.5, 0.75), axis=0)
    scaled = np.clip((vectors - middle) * (_QUARTILES / (high - low)), -_FARTHEST, _FARTHEST)
    share = np.isnan(vectors).mean(axis=1, keepdims=True)
    return np.concatenate([np.nan_to_num(scaled), share], axis=1).astype(np.float32)


def _loop(table: Any, train: TrainingRows, validation: TrainingRows, settings: LSTMSettings) -> list[float]:
    import torch

    torch.manual_seed(0)
    lstm = torch.nn.LSTM(table.shape[1], settings.hidden_size, batch_first=True)
    heads = torch.nn.Linear(settings.hidden_size, 2 * train.horizons)
    dropout = torch.nn.Dropout(settings.dropout)
    parameters = [*lstm.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
    chance = np.random.default_rng(0)
    deviation = np.nanstd(train.target_pct, axis=0)
    learned, judged = (_tensors(rows, deviation, settings) for rows in (train, validation))

    def loss_of(chosen: Int64, part: tuple[Any, ...]) -> Any:
        places, change, rose = (each[torch.from_numpy(chosen)] for each in part)
        states, _ = lstm(table[places])
        said_change, said_rise = heads(dropout(states[:, -1])).chunk(2, dim=1)
        return torch.nn.functional.mse_loss(
            said_change, change
        ) + torch.nn.functional.binary_cross_entropy_with_logits(said_rise, rose)

    losses = []
    for _ in range(settings.max_epochs):
        dropout.train()
        drawn = chance.permutation(len(train))[: settings.epoch_rows]
        for batch in np.array_split(drawn, -(-len(drawn) // settings.batch_size)):
            optimiser.zero_grad()
            loss_of(batch, learned).backward()
            torch.nn.utils.clip_grad_norm_(parameters, _LONGEST_GRADIENT)
            optimiser.step()
        dropout.eval()
        with torch.inference_mode():
            pieces = np.array_split(np.arange(len(validation)), -(-len(validation) // _ASKED_AT_ONCE))
            losses.append(float(np.mean([float(loss_of(piece, judged)) for piece in pieces])))
    return losses


def _tensors(rows: TrainingRows, deviation: Any, settings: LSTMSettings) -> tuple[Any, ...]:
    """Give the minutes of each row's window, its changes and its directions."""
    import torch

    minute = rows.open_time_ms // MINUTE_MS
    places = np.maximum(minute[:, None] + np.arange(1 - settings.lookback_minutes, 1), 0)
    change = np.nan_to_num(rows.target_pct) / deviation
    change = np.clip(change, -settings.clip_deviations, settings.clip_deviations)
    return (
        torch.from_numpy(places),
        torch.from_numpy(change.astype(np.float32)),
        torch.from_numpy((rows.target_pct > 0).astype(np.float32)),
    )
