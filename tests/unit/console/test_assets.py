"""The files that the console serves, and the rules for its templates."""

from __future__ import annotations

import hashlib
import re
import tomllib
from importlib.resources import files

from triggers.console.assets import assets

ROOM = files("triggers.console")
OWN = {"tokens.css", "console.css", "console.js", "icon.svg", "vendored.toml"}


def test_every_file_of_another_project_is_listed_with_its_hash() -> None:
    listed = tomllib.loads(ROOM.joinpath("assets", "vendored.toml").read_text())
    licences = {each["license_file"] for each in listed.values()}
    there = {each.name for each in ROOM.joinpath("assets").iterdir()}
    assert there == OWN | licences | listed.keys()
    for name, facts in listed.items():
        assert hashlib.sha256(ROOM.joinpath("assets", name).read_bytes()).hexdigest() == facts["sha256"]
        assert facts["version"]
        assert facts["license"]


def test_no_template_has_code_or_style_of_its_own() -> None:
    for template in ROOM.joinpath("templates").iterdir():
        text = template.read_text()
        for forbidden in (
            r"hx-on",
            r"js:",
            r"javascript:",
            r"<style",
            r"\sstyle=",
            r"\son\w+=",
            r"\|\s*safe",
        ):
            assert not re.search(forbidden, text), f"{template.name} has {forbidden}"
        assert not re.search(r'hx-trigger="[^"]*\[', text), f"{template.name} filters a trigger"
        assert not re.search(r"<script(?![^>]* src=)", text), f"{template.name} has a script of its own"


def test_our_own_script_stays_small() -> None:
    assert len(ROOM.joinpath("assets", "console.js").read_text().splitlines()) <= 150


def test_style_sheets_name_files_by_their_hashes() -> None:
    css = assets()["tokens.css"].content.decode()
    for name in re.findall(r'url\("([^"]+)"\)', css):
        assert name in {asset.name for asset in assets().values()}
    assert "url(" not in assets()["console.css"].content.decode()


def test_only_the_tokens_name_colours_and_sizes_of_type() -> None:
    css = ROOM.joinpath("assets", "console.css").read_text()
    assert not re.search(r"#[0-9a-f]{3,8}\b|rgb\(|hsl\(", css)
    assert not re.search(r"font-size:\s*\d+px", css)
    assert not re.search(r"font-weight:\s*\d", css)
