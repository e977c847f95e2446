"""A noun of the API, declared once: its path, its columns, its filters. Its plain commands follow."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import typer

from triggers.cli.completion import names_of
from triggers.cli.naming import find
from triggers.cli.service import segment
from triggers.cli.session import CommandSession, Limit, json_of, option, with_session
from triggers.cli.tables import TableColumn


class Filter(NamedTuple):
    """An option of a list that selects items: the parameter of the query that it sets, and its values."""

    flag: str
    parameter: str
    help: str
    values: Any = str
    noun: Noun | None = None
    """The noun that the option names, if it names one. Its id is sent."""

    @property
    def annotation(self) -> Any:
        """The type of the option."""
        complete = names_of(self.noun) if self.noun else None
        return Annotated[self.values | None, typer.Option(self.flag, help=self.help, autocompletion=complete)]


class Noun(NamedTuple):
    """A kind of thing that the API lists and shows."""

    word: str
    plural: str
    group: str
    """The command that has this noun's commands."""
    path: str
    columns: tuple[TableColumn, ...]
    names: tuple[str, ...] = ()
    """Members that name one, besides the end of its id."""
    member: str = "data"
    """Member of a page that has its items."""
    id_member: str = "id"
    filters: tuple[Filter, ...] = ()
    also: Noun | None = None
    """A second noun whose things it also stands for, when one is named."""

    @property
    def metavar(self) -> str:
        """How its argument is shown, such as `SUBSCRIPTION`."""
        return self.word.upper().replace(" ", "_")

    @property
    def article(self) -> str:
        """`a` or `an`."""
        return "an" if self.word[0].lower() in "aeio" else "a"

    def path_of(self, session: CommandSession, text: str) -> str:
        """The path of the one that a person calls `text`."""
        return f"{self.path}/{segment(find(session, self, text))}"


class Action(NamedTuple):
    """A change of one thing without options, such as `pause`."""

    name: str
    method: str
    suffix: str
    help: str
    done: str
    """Text that is printed if the answer is empty."""


def one_of(noun: Noun) -> Any:
    """The type of the argument that names one thing."""
    by = " or ".join([*noun.names, "the last 6 or more characters of its id"])
    text = f"The {noun.word}: its id, {by}."
    return Annotated[str, typer.Argument(metavar=noun.metavar, help=text, autocompletion=names_of(noun))]


def add_list(app: typer.Typer, noun: Noun, order: str, command: str = "list") -> None:
    """Add the command that lists a noun. `order` says in which order."""

    def run(session: CommandSession, limit: int, **chosen: str | None) -> None:
        asked = {}
        for each in noun.filters:
            value = chosen[each.parameter]
            asked[each.parameter] = find(session, each.noun, value) if each.noun and value else value
        session.show_list(noun.columns, session.items(noun.path, limit, member=noun.member, **asked))

    options = [option(each.parameter, each.annotation, None) for each in noun.filters]
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [option("session", CommandSession), *options, option("limit", Limit, 100)]
    )
    run.__doc__ = (
        f"List {noun.plural}, {order}.\n\n\b\nExample:\n  triggers {noun.group} {command} --limit 20"
    )
    app.command(command)(with_session(lists=True)(run))


def add_show(app: typer.Typer, noun: Noun) -> None:
    """Add the command that shows one thing."""

    def run(session: CommandSession, which: str) -> None:
        session.show(session.call("GET", noun.path_of(session, which)))

    _about_one(run, noun)
    run.__doc__ = (
        f"Show {noun.article} {noun.word}.\n\n\b\nExample:\n  triggers {noun.group} show {_sample(noun)}"
    )
    app.command("show")(with_session()(run))


def add_action(app: typer.Typer, noun: Noun, action: Action) -> None:
    """Add a command that changes one thing and needs no options."""

    def run(session: CommandSession, which: str) -> None:
        path = noun.path_of(session, which)
        answer = session.call(action.method, path + action.suffix)
        if not answer and session.as_json:
            answer = json_of({"id": path.rpartition("/")[2], "status": action.done})
        if answer:
            session.show(answer)
        else:
            typer.echo(action.done)

    _about_one(run, noun)
    example = f"triggers {noun.group} {action.name} {_sample(noun)}"
    run.__doc__ = f"{action.help}\n\n\b\nExample:\n  {example}"
    app.command(action.name)(with_session()(run))


def _about_one(run: Callable[..., None], noun: Noun) -> None:
    run.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [option("session", CommandSession), option("which", one_of(noun))]
    )


def _sample(noun: Noun) -> str:
    return "billing" if noun.names else "3f9a1c0d"
