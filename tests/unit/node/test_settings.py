"""Every setting from the environment and from flags, and what is wrong with them said plainly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from triggers.errors import SettingsError
from triggers.node.settings import Setting, Settings, describe, env_name, settings_list
from triggers.node.variables import load, parse_duration, unknown_variables

SECRETS = [setting.name for setting in settings_list() if setting.secret]

# A value that is not the default, as text, and what it becomes; the rest are made from the type.
PARTICULAR: dict[str, tuple[str, Any]] = {
    "database_url": ("postgresql://u:p@h/d", "postgresql://u:p@h/d"),
    "redis_url": ("rediss://:p@h:1/0", "rediss://:p@h:1/0"),
    "outbound_allow": ("10.0.0.0/8", "10.0.0.0/8"),
    "outbound_proxy": ("http://u:p@proxy:3128", "http://u:p@proxy:3128"),
    "public_url": ("https://example.com/", "https://example.com/"),
    "log_format": ("json", "json"),
    "log_level": ("debug", "debug"),
    "console": ("off", "off"),
    "metrics_port": ("9100", 9100),
    "worker_metrics_port": ("9100", 9100),
}


def other_value(setting: Setting) -> tuple[str, Any]:
    if setting.name in PARTICULAR:
        return PARTICULAR[setting.name]
    if setting.duration:
        return "90s", 90.0
    if isinstance(setting.default, bool):
        return str(not setting.default).lower(), not setting.default
    if isinstance(setting.default, int):
        return str(setting.default + 1), setting.default + 1
    return "/tmp/other", "/tmp/other"


@pytest.mark.parametrize(
    ("public_url", "root_path"),
    [
        (None, ""),
        ("https://example.com", ""),
        ("https://example.com/", ""),
        ("https://example.com/triggers/", "/triggers"),
        ("https://example.com:8443/a/b", "/a/b"),
        ("https://example.com/größe/%41", "/gr%C3%B6%C3%9Fe/%41"),  # headers need ASCII
    ],
)
def test_links_begin_with_the_path_of_the_public_url(public_url: str | None, root_path: str) -> None:
    assert Settings(public_url=public_url).root_path == root_path


@pytest.mark.parametrize("setting", settings_list(), ids=lambda setting: setting.name)
def test_a_setting_comes_from_the_environment_or_a_flag(setting: Setting) -> None:
    text, value = other_value(setting)
    assert getattr(load({}), setting.name) == setting.default
    assert value != setting.default
    environ = {env_name(setting.name): text}
    assert getattr(load(environ), setting.name) == value
    assert getattr(load({}, **{setting.name: text}), setting.name) == value
    if isinstance(value, bool):
        assert getattr(load(environ, **{setting.name: not value}), setting.name) is not value
    assert getattr(load({env_name(setting.name): ""}), setting.name) == setting.default, "empty is not set"
    assert getattr(load(environ, **{setting.name: None}), setting.name) == value, "a flag not given"
    assert setting.help
    assert setting.help.endswith(".")


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_may_stand_in_a_file_and_is_never_shown(name: str, tmp_path: Path) -> None:
    text, value = other_value(describe(name))
    file = tmp_path / "secret"
    file.write_text(f"\ufeff{text}\r\n", encoding="utf-8")
    settings = load({env_name(name) + "_FILE": str(file)})
    assert getattr(settings, name) == value
    assert settings.masked()[name] == "(set)"
    for shown in (repr(settings), str(settings.masked())):
        assert text not in shown
    with pytest.raises(SettingsError, match=f"{env_name(name)}_FILE"):
        load({env_name(name) + "_FILE": str(tmp_path / "nowhere")})


def test_only_secrets_stand_in_files(tmp_path: Path) -> None:
    (tmp_path / "port").write_text("1")
    assert load({"TRIGGERS_PORT_FILE": str(tmp_path / "port")}).port == 8080


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("1.5", 1.5),
        ("500ms", 0.5),
        ("30s", 30),
        ("15m", 900),
        ("24h", 86_400),
        ("7d", 604_800),
        (" 2h ", 7200),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert load({"TRIGGERS_DEDUP_WINDOW": text}).dedup_window == seconds


@pytest.mark.parametrize(
    "text", ["", "h", "-1", "1w", "1 h", "1h30m", "1e3", "∞", "nan", "36501d", "9" * 400]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError):
        parse_duration(text)


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"TRIGGERS_PORT": "x"}, "TRIGGERS_PORT is 'x'. It must be a whole number."),
        ({"TRIGGERS_PORT": "65536"}, "TRIGGERS_PORT"),
        ({"TRIGGERS_PORT": "-1"}, "TRIGGERS_PORT"),
        ({"TRIGGERS_POOL_SIZE": "1"}, "TRIGGERS_POOL_SIZE is '1'. It must be a whole number >= 2."),
        ({"TRIGGERS_DEDUP_WINDOW": "soon"}, "TRIGGERS_DEDUP_WINDOW is 'soon'. It must be a duration"),
        ({"TRIGGERS_DEDUP_WINDOW": "0"}, "TRIGGERS_DEDUP_WINDOW"),
        ({"TRIGGERS_SHUTDOWN_TIMEOUT": "0s"}, "TRIGGERS_SHUTDOWN_TIMEOUT"),
        ({"TRIGGERS_LOG_LEVEL": "loud"}, "It must be one of debug, info, warning, error."),
        ({"TRIGGERS_LOG_ACCEPTED": "perhaps"}, "It must be 1, 0, true or false."),
        ({"TRIGGERS_DATABASE_URL": "mysql://u:secret@h"}, "TRIGGERS_DATABASE_URL"),
        ({"TRIGGERS_WORKER_METRICS_PORT": "x"}, "It must be a whole number."),
        ({"TRIGGERS_OUTBOUND_PROXY": "http://:secret@h:port"}, "TRIGGERS_OUTBOUND_PROXY"),
        ({"TRIGGERS_OUTBOUND_ALLOW": "10.0.0.1/8"}, "'10.0.0.1/8' is not a CIDR"),
        ({"TRIGGERS_PUBLIC_URL": "nonsense"}, "TRIGGERS_PUBLIC_URL"),
        ({"TRIGGERS_PUBLIC_URL": "https://"}, "TRIGGERS_PUBLIC_URL"),
        ({"TRIGGERS_PUBLIC_URL": "https://h/?a"}, "TRIGGERS_PUBLIC_URL"),
        ({"TRIGGERS_PUBLIC_URL": "http://[::1"}, "TRIGGERS_PUBLIC_URL"),
        ({"TRIGGERS_REDIS_URL": "http://:secret@h"}, "TRIGGERS_REDIS_URL"),
        ({"TRIGGERS_DATABASE_URL": "postgresql://h/d", "TRIGGERS_DATA_DIR": "/x"}, "not both"),
        ({"TRIGGERS_DEV": "1", "TRIGGERS_DATABASE_URL": "postgresql://h/d"}, "TRIGGERS_DEV"),
        ({"TRIGGERS_DEV": "1", "TRIGGERS_HOST": "0.0.0.0"}, "TRIGGERS_HOST"),
        ({"TRIGGERS_DEV": "1", "TRIGGERS_HOST": "example.com"}, "TRIGGERS_HOST"),
    ],
)
def test_what_is_wrong_is_said_with_its_name_and_no_secret(environ: dict[str, str], named: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load(environ)
    assert named in raised.value.message
    assert "secret" not in raised.value.message


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("TRIGGERS_PROT", "TRIGGERS_PORT"),
        ("TRIGGERS_DATABASE", "TRIGGERS_DATABASE_URL"),
        ("TRIGGERS_HOST_FILE", "TRIGGERS_HOST"),
        ("TRIGGERS_XYZZY", None),
        ("TRIGGERS_FILE", None),
    ],
)
def test_an_unknown_variable_and_what_it_may_mean(name: str, meant: str | None) -> None:
    assert unknown_variables({name: "x"}) == {name: meant}
    assert load({name: "x"}) == Settings()


def test_what_is_no_unknown_variable() -> None:
    known = {env_name(setting.name) for setting in settings_list()} | {"TRIGGERS_REDIS_URL_FILE"}
    assert unknown_variables(dict.fromkeys([*known, "PORT", "TRIGGERS_URL"], "x"), ["TRIGGERS_URL"]) == {}
    of_kubernetes = {
        "TRIGGERS_SERVICE_HOST": "10.0.0.7",
        "TRIGGERS_SERVICE_PORT_HTTP": "80",
        "TRIGGERS_PORT": "tcp://10.0.0.7:80",
        "TRIGGERS_PORT_80_TCP": "tcp://10.0.0.7:80",
        "TRIGGERS_API_SERVICE_HOST": "10.0.0.8",
        "TRIGGERS_API_PORT": "udp://10.0.0.8:80",
        "TRIGGERS_WORKER_METRICS_PORT": "tcp://10.0.0.9:80",
    }
    assert unknown_variables(of_kubernetes) == {}
    assert load(of_kubernetes) == Settings()


def test_settings_do_not_change() -> None:
    with pytest.raises(AttributeError):
        Settings().port = 1  # type: ignore[misc]  # that is the point


def test_where_metrics_are_served() -> None:
    assert not Settings().metrics_elsewhere
    assert Settings(metrics_host="127.0.0.2").metrics_address() == ("127.0.0.2", 8080)
    assert Settings(metrics_port=9100).metrics_address() == ("127.0.0.1", 9100)
    assert Settings(metrics_host="127.0.0.2").metrics_elsewhere
    assert Settings(metrics_port=0).metrics_elsewhere


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_for_development_receivers_on_this_machine_are_allowed(host: str) -> None:
    assert not Settings(host=host).outbound_policy().allow
    policy = Settings(host=host, dev=True).outbound_policy()
    assert policy.allow_http
    assert {str(each) for each in policy.allow} == {"127.0.0.0/8", "::1/128"}


def test_a_password_in_the_public_url_is_not_shown() -> None:
    settings = Settings(public_url="https://ada:sesame@triggers.example.com/hooks")
    assert settings.masked()["public_url"] == "https://…@triggers.example.com/hooks"
    assert "sesame" not in repr(settings)
    assert Settings(public_url="https://a.example/x@y").masked()["public_url"] == "https://a.example/x@y"
