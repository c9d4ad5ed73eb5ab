"""A fit gives the same bytes in every process."""

from __future__ import annotations

import subprocess
import sys


def test_the_bytes_do_not_depend_on_the_process() -> None:
    # Origin: hash seeds and thread pools differ from process to process.
    code = (
        "import hashlib, numpy as np\n"
        "from domain.models.model import TrainingRows\n"
        "from domain.models.xgboost import FAMILY\n"
        "c = np.random.default_rng(0)\n"
        "x = c.normal(size=(900, 5)).astype(np.float32)\n"
        "y = x[:, 0] + c.normal(size=900)\n"
        "r = TrainingRows(vectors=x, target_pct=y[:, None], open_time_ms=np.arange(900) * 60000,"
        " symbol_index=np.zeros(900, np.int32))\n"
        "f = FAMILY.fit(train=r, validation=r, settings={'rounds': 9}, seed=1, progress=lambda *a: None,"
        " cancelled=lambda: False)\n"
        "print(hashlib.sha256(f.graph + f.native).hexdigest())\n"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=600
        ).stdout
        for _ in range(2)
    }
    assert len(digests) == 1
