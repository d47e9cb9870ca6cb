"""Settings: file and environment, and errors that say where, what was expected and what to do."""

from pathlib import Path
from typing import Annotated, Literal

import msgspec
import pytest

from deploy.node.failpoints import FAILPOINTS_VARIABLE
from deploy.node.failures import SettingsInvalid
from deploy.node.settings import load_settings


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    queue_max: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
    ratio: float = 0.5


class Sample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    data_folder: Path
    port: Annotated[int, msgspec.Meta(ge=0, le=65_535)] = 0
    peers: tuple[str, ...] = ()
    careful: bool = True
    limits: Limits = Limits()
    extra: Limits | None = None
    color: Literal["red", "green"] = "red"


TEXT = """
name = "one"
data_folder = "data"
port = 7000
[limits]
queue_max = 20
"""


def load(path: Path, text: str = TEXT, **environ: str) -> Sample:
    file = path / "sample.toml"
    file.write_text(text)
    return load_settings(Sample, file, {"PATH": "/bin", **environ})


def test_a_value_that_is_none_of_those_allowed_is_told_with_them(tmp_path: Path) -> None:
    allowed = r"Invalid enum value 'blue'; allowed are: red, green$"
    with pytest.raises(SettingsInvalid, match=rf"sample\.toml: color: {allowed}"):
        load(tmp_path, TEXT.replace("port", 'color = "blue"\nport'))
    with pytest.raises(SettingsInvalid, match=rf"^LOCKSTEP_COLOR: {allowed}"):
        load(tmp_path, LOCKSTEP_COLOR="blue")


def test_file_alone(tmp_path: Path) -> None:
    expected = Sample(name="one", data_folder=tmp_path / "data", port=7000, limits=Limits(queue_max=20))
    assert load(tmp_path) == expected


def test_environment_wins(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        LOCKSTEP_NAME="123",
        LOCKSTEP_PORT="8000",
        LOCKSTEP_CAREFUL="false",
        LOCKSTEP_PEERS='["a", "b"]',
        LOCKSTEP_LIMITS__QUEUE_MAX="30",
        LOCKSTEP_EXTRA__RATIO="0.25",
        LOCKSTEP_DATA_FOLDER="/var/other",
    )
    assert settings == Sample(
        name="123",
        data_folder=Path("/var/other"),
        port=8000,
        peers=("a", "b"),
        careful=False,
        limits=Limits(queue_max=30),
        extra=Limits(ratio=0.25),
    )


def test_paths_in_the_environment_are_relative_to_the_working_directory(tmp_path: Path) -> None:
    assert load(tmp_path, LOCKSTEP_DATA_FOLDER="here").data_folder == Path.cwd() / "here"


def test_no_file_is_needed() -> None:
    settings = load_settings(Sample, None, {"LOCKSTEP_NAME": "n", "LOCKSTEP_DATA_FOLDER": "/d"})
    assert settings == Sample(name="n", data_folder=Path("/d"))


def test_variables_that_are_not_settings(tmp_path: Path) -> None:
    load(tmp_path, **{FAILPOINTS_VARIABLE: "x", "LOCKSTEP_TEST_SEED": "7"})


@pytest.mark.parametrize(
    ("text", "environ", "complaint"),
    [
        (
            TEXT.replace("7000", '"many"'),
            {},
            r"sample\.toml: port: Expected `int`, got `str`; correct it there",
        ),
        (TEXT.replace("= 20", "= 101"), {}, r"sample\.toml: limits\.queue_max: Expected `int` <= 100"),
        (TEXT.replace("port", "prot"), {}, r"sample\.toml: .*unknown field `prot`; did you mean port\?"),
        (
            TEXT.replace("queue_max", "qu"),
            {},
            r"sample\.toml: limits: .*unknown field `qu`; known are: queue_max",
        ),
        (TEXT.replace('name = "one"', ""), {}, r"missing required field `name`"),
        (TEXT.replace("port = 7000", "port = "), {}, r"sample\.toml is not TOML: .*line 4"),
        (
            TEXT,
            {"LOCKSTEP_PORT": "many"},
            r"LOCKSTEP_PORT: Expected `int`, got .*'many'; correct the variable",
        ),
        (TEXT, {"LOCKSTEP_PORT": "70000"}, r"LOCKSTEP_PORT: .*Expected `int` <= 65535"),
        (TEXT, {"LOCKSTEP_PEERS": "[1]"}, r"(?s)peers.*Expected `str`, got `int`"),
        (TEXT, {"LOCKSTEP_PROT": "1"}, r"LOCKSTEP_PROT sets nothing; did you mean LOCKSTEP_PORT\?"),
        (TEXT, {"LOCKSTEP_LIMITS__QUEUE": "1"}, r"did you mean LOCKSTEP_LIMITS__QUEUE_MAX\?"),
        (TEXT, {"LOCKSTEP_PORT__X": "1"}, r"LOCKSTEP_PORT__X sets nothing; known are: none"),
        (TEXT.replace("[limits]\nqueue_max", "limits"), {"LOCKSTEP_LIMITS__RATIO": "1"}, r"single value"),
    ],
)
def test_errors_are_precise(tmp_path: Path, text: str, environ: dict[str, str], complaint: str) -> None:
    with pytest.raises(SettingsInvalid, match=complaint):
        load(tmp_path, text, **environ)


def test_without_a_file_it_says_how_to_name_one() -> None:
    with pytest.raises(SettingsInvalid, match="required field `name`; name a settings file with --config"):
        load_settings(Sample, None, {})


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsInvalid, match=r"none\.toml cannot be read: No such file"):
        load_settings(Sample, tmp_path / "none.toml", {})
