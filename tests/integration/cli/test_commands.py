"""Every command once against a real node, as people see it and as JSON; names, endings, and hostile texts."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner, Result

from harness import Node, Tenant, Tenants
from triggers.cli import app
from triggers.domain import TENANT_SCOPES, Scope
from triggers.errors import OperatorError

HOSTILE = "\u202e\u200b"
"""What the service stores in a name, and a terminal hides."""
ELSEWHERE = {
    "api", "bench", "check", "console", "db url", "demo", "inbox tail", "keys import", "listen", "migrate",
    "secrets rotate", "serve", "version", "worker",
}  # fmt: skip
"""Commands that other tests run: they need a process, or the database."""


class Shell:
    """Runs commands in a thread, because the node answers from the test's loop, and remembers which."""

    def __init__(self, node: Node, key: str) -> None:
        self._environment = {"TRIGGERS_URL": node.url, "TRIGGERS_API_KEY": key, "TERM": "dumb"}
        self.ran: set[str] = set()

    async def result(self, *arguments: str, **options: Any) -> Result:
        names = [each for each in arguments[:2] if re.fullmatch(r"[a-z-]+", each)]
        self.ran |= {names[0], " ".join(names)}
        return await asyncio.to_thread(
            CliRunner().invoke, app, list(arguments), env=self._environment, **options
        )

    async def __call__(self, *arguments: str, **options: Any) -> str:
        """What it prints for people, in which nothing is that a terminal would obey or hide."""
        done = await self.succeeds(*arguments, **options)
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", done.output), done.output
        return done.stdout

    async def succeeds(self, *arguments: str, **options: Any) -> Result:
        done = await self.result(*arguments, **options)
        assert done.exit_code == 0, (arguments, done.output, done.exception)
        return done

    async def json(self, *arguments: str, **options: Any) -> Any:
        """The one object that it prints with --json."""
        [found] = await self.lines(*arguments, **options)
        return found

    async def lines(self, *arguments: str, **options: Any) -> list[Any]:
        """The objects that it prints with --json."""
        done = await self.succeeds(*arguments, "--json", **options)
        return [json.loads(line) for line in done.stdout.split("\n") if line]

    async def fails(self, *arguments: str) -> str:
        """Why it is refused."""
        done = await self.result(*arguments)
        assert done.exit_code == 1, done.output
        assert isinstance(done.exception, OperatorError), done.exception
        return done.exception.message


@pytest.fixture
def shell(node: Node, tenant: Tenant) -> Shell:
    return Shell(node, tenant.key)


def leaves(command: Any, path: tuple[str, ...] = ()) -> dict[str, Any]:
    """Every command by its words."""
    inner = getattr(command, "commands", None)
    if inner is None:
        return {" ".join(path): command}
    return {
        name: found for word, each in inner.items() for name, found in leaves(each, (*path, word)).items()
    }


def test_every_command_and_option_has_a_help_text_and_an_example() -> None:
    found = leaves(typer.main.get_command(app))
    assert len(found) > 60
    for name, command in found.items():
        assert re.search(
            rf"Examples?:\n  .*triggers {name.replace('inbox list', 'inbox peek')}", command.help
        ), name
        for option in command.params:
            if option.param_type_name == "option" or option.help:
                assert getattr(option, "help", None), (name, option.name)


async def test_every_command_runs(
    shell: Shell, client: httpx.AsyncClient, node: Node, tenants: Tenants, tenant: Tenant
) -> None:
    url = "https://receiver.example/hook"
    hook = await shell.json("subscriptions", "create", url, "--name", f"shop {HOSTILE}", "--type", "order.*")
    assert hook["name"] == f"shop {HOSTILE}"
    assert "whsec_" in await shell("subscriptions", "create", url, "--name", "second")
    box = await shell.json("inboxes", "create", "billing", "--type", "order.*", "--max-leases", "9")
    again = ("--type", "order.*", "--max-leases", "9", "--ensure")
    assert (await shell.json("inboxes", "create", "billing", *again))["id"] == box["id"]
    assert "created_at" in await shell("inboxes", "create", "other", "--filter", "payload.a > 1")
    assert "409" in await shell.fails("inboxes", "create", "other")
    event = (await shell.json("send", "order.paid", "--data", '{"total": 70}'))["id"]
    for noun, key in (("subscriptions", "second"), ("inboxes", "billing")):
        assert key in await shell(noun, "list")
        assert key in await shell(noun, "show", key)
        assert key in {each.get("name") or each["key"] for each in await shell.lines(noun, "list")}
        assert "paused" in await shell(noun, "pause", key)
        assert len(await shell.lines(noun, "list", "--status", "paused")) == 1
        assert "active" in await shell(noun, "resume", key)
    changed = await shell.json("inboxes", "change", "billing", "--lease-seconds", "60", "--clear", "type")
    assert (changed["default_lease_seconds"], changed["event_types"]) == (60, None)
    assert "Nothing to change" in await shell.fails("inboxes", "change", "billing")
    assert "Both changed" in await shell.fails(
        "inboxes", "change", "billing", "--type", "a", "--clear", "type"
    )
    assert "second" in await shell("subscriptions", "change", "second", "--rate-limit", "5")
    assert "disabled" in await shell("subscriptions", "disable", "second")
    assert "active" in await shell("subscriptions", "enable", "second")
    assert "whsec_" in await shell("subscriptions", "rotate-secret", "second", "--overlap", "1h")
    dry = await shell.result(
        "subscriptions", "dry-run", "--type", "order.*", "--filter", "payload.total > 50.0"
    )
    assert "1 of 1 events match." in dry.output
    await shell("subscriptions", "pause", "second")
    assert "delivery_id" in await shell("subscriptions", "test", "second")

    assert "order.paid" in await shell(
        "events", "list", "--type", "order.*", "--since", "1h", "--undelivered"
    )
    assert await shell.lines("events", "list", "--until", "1h") == []
    shown = await shell("events", "show", event[-8:])
    assert '{"total": 70}' in shown
    assert "billing" in shown or box["id"] in shown
    assert (await shell.json("events", "show", event))["payload"] == {"total": 70}
    assert "matched by order.*" in await shell("events", "explain", event)
    assert "matched by order.*" in await shell("events", "explain", event[-14:])
    assert {"default", "billing"} < {each["key"] for each in await shell.lines("events", "explain", event)}
    assert await shell("events", "payload", event) == '{"total": 70}'
    assert "matches" in await shell("events", "dry-run", "order.paid", "--data", "{}")
    assert (await shell.json("events", "dry-run", "user.made"))["matched"] >= 1

    assert "order.paid" in await shell("deliveries", "list", "--subscription", hook["id"])
    name = f"{event[-8:]}.{hook['id'][-8:]}"
    assert "pending" in await shell("deliveries", "show", name)
    assert "pending" in await shell("deliveries", "retry", name)
    assert "cancelled" in await shell("deliveries", "cancel", name)
    assert "billing" in await shell("deliveries", "undelivered", "--kind", "inbox")
    assert await shell.lines("attempts", "--subscription", "second") == []
    assert await shell.lines("attempts", "--event", event) == []
    assert "404" in await shell.fails("deliveries", "show", "nonsense")
    replayed = await shell.result("replay", hook["id"], "--since", "1h", "--yes")
    assert "done: 1 delivery created" in replayed.output
    [job] = await shell.lines("replays", "list", "--subscription", hook["id"])
    assert job["id"] in await shell("replays", "list", "--status", "done")
    assert "done" in await shell("replays", "show", job["id"][-8:])
    assert "done" in await shell("replays", "cancel", job["id"][-6:])
    assert "done: 1" in (await shell.result("replays", "watch", job["id"])).output

    await of_inboxes(shell)
    await of_keys(shell, tenant)
    await of_operators(Shell(node, await admin_key(node, tenants)), shell)
    assert "deleted" in await shell("subscriptions", "delete", "second")
    assert "deleting" in await shell("inboxes", "delete", "billing")
    assert "/v1/events" in await shell("routes")
    assert set(leaves(typer.main.get_command(app))) - shell.ran - ELSEWHERE == set()


async def of_inboxes(shell: Shell) -> None:
    assert "order.paid" in await shell("inbox", "peek", "--inbox", "billing", "--payload")
    assert "order.paid" in await shell("inbox", "list", "--inbox", "billing")
    for command, *options in (["release", "--delay", "0"], ["reject", "--reason", "bad"]):
        lease = await shell.json("inbox", "lease", "--inbox", "billing")
        await shell("inbox", "extend", lease["lease_id"], "--inbox", "billing")
        settled = await shell("inbox", command, lease["lease_id"], "--inbox", "billing", *options)
        assert lease["results"][0]["id"] in settled
    assert "bad" in await shell("inbox", "peek", "--inbox", "billing", "--status", "quarantined")
    await shell("inbox", "redrive", "--inbox", "billing")
    await shell("inbox", "lease", "--inbox", "billing")
    [lease] = await shell.lines("inbox", "leases", "--inbox", "billing")
    await shell("inbox", "revoke", lease["lease_id"], "--inbox", "billing")
    await shell("inbox", "lease", "--inbox", "billing")
    [lease] = await shell.lines("inbox", "leases", "--inbox", "billing")
    assert "acked" in await shell("inbox", "ack", lease["lease_id"][-8:], "--inbox", "billing")


async def of_keys(shell: Shell, tenant: Tenant) -> None:
    made = await shell.json("keys", "create", "--name", "ci", "--scope", "events:write", "--expires-in", "1d")
    assert made["scopes"] == ["events:write"]
    assert "ci" in await shell("keys", "list")
    assert "ci" in await shell("keys", "list", "--org", tenant.name)
    after = await shell.json("keys", "rotate", "ci", "--overlap", "1h")
    assert after["name"] == "ci"
    assert "2 keys are called 'ci'" in await shell.fails("keys", "revoke", "ci")
    assert "revoked_at" in await shell("keys", "revoke", made["id"][-8:])
    assert "imported into the database" in await shell.fails(
        "keys", "import", "--prefix", "a", "--sha256", "b"
    )
    assert tenant.name in await shell("orgs", "show")
    assert "403" in await shell.fails("orgs", "list")


async def admin_key(node: Node, tenants: Tenants) -> str:
    return (await tenants.make(scopes=[*TENANT_SCOPES, Scope.ADMIN], name="operators")).key


async def of_operators(admin: Shell, shell: Shell) -> None:
    made = await admin.json("orgs", "create", "acme", "--plan", "pro")
    assert made["plan"] == "pro"
    assert "acme" in await admin("orgs", "list")
    assert "enterprise" in await admin("orgs", "set-plan", "acme", "enterprise", "--requests-per-minute", "9")
    key = await admin.json("keys", "create", "--org", "acme", "--name", "first")
    assert [each["id"] for each in await admin.lines("keys", "list", "--org", "acme")] == [key["id"]]
    assert "another organisation" in await admin.fails("keys", "rotate", "first", "--org", "acme")
    assert "revoked" in await admin("keys", "revoke", "first", "--org", "acme")
    assert "Did you mean 'acme'?" in await admin.fails("keys", "list", "--org", "acmee")
    assert "Did you mean 'acme'?" in await admin.fails("orgs", "delete", "acmee", "-y")
    assert "403" in await shell.fails("orgs", "delete", made["id"], "-y")
    assert "its own organisation" in await admin.fails("orgs", "delete", "operators", "-y")
    assert "deleted_at" in await admin("orgs", "delete", made["id"][-8:], "--yes")
    assert "acme" not in await admin("orgs", "list")
    seen = await admin("status")
    for part in (
        "organisation operators",
        "process",
        "groups",
        "PostgreSQL",
        "pool",
        "partitions",
        "subscriptions",
    ):
        assert part in seen
    assert (await admin.json("status"))["system"]["groups"]["total"] > 0
    assert "only to a key with the scope admin" in await shell("status")
    assert [each["system"] for each in await shell.lines("top", "--count", "2", "--every", "0.5")] == [
        None,
        None,
    ]
    shell.ran |= admin.ran


async def test_an_ending_of_an_id_names_one_thing_and_two_are_listed(
    shell: Shell, client: httpx.AsyncClient, node: Node
) -> None:
    for number in range(2):
        await client.post("/v1/inboxes", json={"key": f"box {number}"})
    await node.database.fetch(
        "update subscriptions set id = overlay(id::text placing 'abcdefabcdef' from 25)::uuid"
        " where key like 'box %'"
    )
    listed = [each["id"] for each in await shell.lines("inboxes", "list") if each["key"] != "default"]
    assert all(each.endswith("-abcdefabcdef") for each in listed)
    told = await shell.fails("inboxes", "show", "ABCDEF")
    assert told.startswith("2 inboxes are called 'ABCDEF', or have an id that ends with it.")
    assert [line.split()[0] for line in told.splitlines()[1:]] == listed
    assert "box 1" in told
    assert (await shell.json("inboxes", "show", "box 1"))["key"] == "box 1"
    assert "No inbox is called 'bcdef'." in await shell.fails("inboxes", "show", "bcdef")
    assert "Did you mean 'box 0'?" in await shell.fails("inboxes", "pause", "bx 0")
    assert "No event was found" in await shell.fails("events", "show", "abcdef")
    assert "404" in await shell.fails("events", "show", "xyz")


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["evnts", "list"], "Did you mean 'events'"),
        (["events", "shwo"], "Did you mean 'show'"),
        (["events", "list", "--tpe", "a"], "--type"),
        (["deliveries", "list", "--status", "ded"], "'dead'"),
    ],
)
def test_what_was_meant_is_named(arguments: list[str], meant: str) -> None:
    done = CliRunner().invoke(app, arguments, env={"TRIGGERS_API_KEY": "k"})
    assert done.exit_code == 2
    assert meant in done.output


def test_the_version_and_the_exit_codes_are_told() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", CliRunner().invoke(app, ["--version"]).output)
    told = CliRunner().invoke(app, ["--help"]).output
    for code in (0, 1, 2, 130):
        assert re.search(rf"^ +{code} +\w", told, re.MULTILINE)


def test_a_shell_is_completed() -> None:
    completed = CliRunner().invoke(
        app,
        [],
        prog_name="triggers",
        env={"_TRIGGERS_COMPLETE": "complete_bash", "COMP_WORDS": "triggers even", "COMP_CWORD": "1"},
    )
    assert completed.output.strip() == "events"
