"""What the documents list is what there is."""

import re
from pathlib import Path

from prometheus_client import REGISTRY

from triggers import observability  # noqa: F401 - fills the registry
from triggers.node.settings import env_name, settings_list
from triggers.push import metrics

DOCS = Path(__file__).parents[3] / "docs"


def test_every_setting_has_its_row() -> None:
    rows = re.findall(
        r"^\| `(TRIGGERS_\w+)` \| .* \| (.*) \|$", (DOCS / "configuration.md").read_text(), re.MULTILINE
    )
    assert rows == [(env_name(setting.name), setting.help) for setting in settings_list()]


def test_every_metric_has_its_row() -> None:
    listed = set(re.findall(r"`(triggers_\w+)`", (DOCS / "observability.md").read_text()))
    families = [*REGISTRY.collect(), *metrics.registry.collect()]
    suffixes = {"counter": "_total", "info": "_info"}
    exist = {f.name + suffixes.get(f.type, "") for f in families if f.name.startswith("triggers_")}
    assert listed == exist
