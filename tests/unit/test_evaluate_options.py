"""What `tidecast evaluate` is asked for is each asked for once."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app


@pytest.mark.parametrize(
    ("option", "text", "repeated"),
    [
        ("--seeds", "1,1", "1"),
        ("--seeds", "3 1,3,2,1", "1, 3"),
        ("--horizons", "5,15,05", "5"),
        ("--families", "xgboost,last_value,xgboost", "xgboost"),
    ],
)
def test_what_is_named_twice_is_refused_before_anything_is_read(
    tmp_path: Path, option: str, text: str, repeated: str
) -> None:
    result = CliRunner().invoke(
        app, ["evaluate", str(tmp_path / "nowhere"), option, text], env={"COLUMNS": "200"}
    )

    assert result.exit_code == 2
    assert option in result.output
    assert f"names {repeated} more than once; name each once" in result.output
