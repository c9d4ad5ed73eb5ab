"""Whatever is in a settings file: settings, or a ConfigurationError that can be printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as how
from hypothesis import strategies as st

from config.ml_config import DEFAULT_FILE, ConfigurationError, load

DEFAULTS = DEFAULT_FILE.read_bytes()
LINES = [line for line in DEFAULTS.decode().splitlines() if line and not line.startswith("#")]
VALUES = st.sampled_from(
    (
        "1",
        "-1",
        "nan",
        "inf",
        '""',
        '"x"',
        "[]",
        "{}",
        "[[]]",
        "true",
        "1979-05-27",
        "07:32:00",
        "0x" + "f" * 6000,
    )
) | st.floats().map(repr)


def loads_or_explains(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    try:
        load(path)
    except ConfigurationError as error:
        assert str(error)  # noqa: PT017  the point is that printing works, whatever was in the file


@pytest.mark.slow
@given(content=st.binary(max_size=500))
@example(content=b"a = " + b"[" * 5000)
@example(content=b"a = " + b"9" * 5000)
@example(content=b"\xef\xbb\xbf[features]\n")
@example(content=b"[" + b"a." * 3000 + b"b]\nc=1")
@example(content=b'"" = 1\n"a.b" = 2\n"features.rsi_period" = 3\n')
@example(content=b"symbols = 3\n[symbols.x]\n")
@how(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    loads_or_explains(tmp_path / "my.toml", content)


@pytest.mark.slow
@given(place=st.integers(0, len(DEFAULTS) - 1), byte=st.integers(0, 255), cut=st.booleans())
@how(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_default_file_with_one_byte_changed_or_cut_short(
    tmp_path: Path, place: int, byte: int, *, cut: bool
) -> None:
    rest = b"" if cut else DEFAULTS[place + 1 :]
    loads_or_explains(tmp_path / "my.toml", DEFAULTS[:place] + bytes([byte]) + rest)


@pytest.mark.slow
@given(changes=st.dictionaries(st.integers(0, len(LINES) - 1), VALUES, max_size=6))
@how(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_values_of_every_wrong_kind(tmp_path: Path, changes: dict[int, str]) -> None:
    lines = list(LINES)
    for number, value in changes.items():
        if "=" in lines[number]:
            lines[number] = f"{lines[number].partition('=')[0]}= {value}"
    loads_or_explains(tmp_path / "my.toml", "\n".join(lines).encode())


@how(max_examples=60)
@given(
    name=st.text(st.characters(codec="ascii", categories=["L", "N"], include_characters="_"), max_size=30),
    value=st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=30),
)
def test_any_variable_of_ours(name: str, value: str) -> None:
    try:
        load(None, {f"TIDECAST_{name}": value})
    except ConfigurationError as error:
        assert str(error)  # noqa: PT017  see above


def test_a_folder_in_place_of_a_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load(tmp_path)
