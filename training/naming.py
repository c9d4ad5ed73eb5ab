"""Names of models and batches: the same for the same training, wherever and whenever it ran."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

#: Length of the columns that hold them.
_MAX_LENGTH = 50
_DIGITS = 8


def batch_id(*, family: str, symbol: str, horizon_minutes: int, train_at_ms: int) -> str:
    """Name one training, for example `xgboost-ALL-h15-20210403T1000Z`."""
    return _name(family, symbol, horizon_minutes, train_at_ms, reserve=0)


def model_version(
    *, family: str, symbol: str, horizon_minutes: int, train_at_ms: int, artifact_sha256: str
) -> str:
    """Name one model, for example `xgboost-ALL-h15-20210403T1000Z-1a2b3c4d`; ends with its file's digest."""
    base = _name(family, symbol, horizon_minutes, train_at_ms, reserve=1 + _DIGITS)
    return f"{base}-{artifact_sha256[:_DIGITS]}"


def graph_file(version: str) -> str:
    """Name the file of a model's graph."""
    return f"{version}.onnx"


def _name(family: str, symbol: str, horizon_minutes: int, train_at_ms: int, *, reserve: int) -> str:
    moment = datetime.fromtimestamp(train_at_ms // 1000, UTC).strftime("%Y%m%dT%H%MZ")
    end = f"-h{horizon_minutes}-{moment}"
    room = _MAX_LENGTH - reserve - len(family) - 1 - len(end)
    safe = "".join(c if c.isascii() and c.isalnum() else "_" for c in symbol)
    if safe != symbol or len(safe) > room:
        digest = hashlib.sha256(symbol.encode()).hexdigest()[:4]
        safe = safe[: room - len(digest)] + digest
    return f"{family}-{safe}{end}"
