"""The HTTP client by which commands reach the running service, and the messages for its failures."""

from __future__ import annotations

import ipaddress
import json
import re
from typing import TYPE_CHECKING, Annotated, Any, TypeVar
from urllib.parse import quote

import msgspec
import typer

from triggers.errors import OperatorError

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")
Url = Annotated[str, typer.Option("--url", envvar="TRIGGERS_URL", help="URL of the service.")]
Key = Annotated[str, typer.Option("--key", envvar="TRIGGERS_API_KEY", help="API key of an organisation.")]
CLIENT_VARIABLES = ("TRIGGERS_URL", "TRIGGERS_API_KEY")
DEFAULT_URL = "http://127.0.0.1:8080"
TIMEOUT_SECONDS = 60

_NOT_OURS = "The answer does not come from Triggers. Check --url or TRIGGERS_URL."


def open_client(url: str, key: str) -> httpx.Client:
    """An HTTP client for a running service. It reaches a service on this machine without a proxy.

    Raises:
        OperatorError: the URL, the key, or a variable that HTTP clients read is wrong.
    """
    key = key.strip()  # a file from which it was copied may end its lines with \r
    if not re.fullmatch(r"[!-~]+", key):
        raise OperatorError(
            "The API key is empty, or contains a character that no key has, such as a space."
            " Check --key or TRIGGERS_API_KEY."
        )
    import httpx

    base = _read_url(url)
    try:
        return httpx.Client(
            base_url=base,
            headers={"authorization": f"Bearer {key}", "content-type": "application/json"},
            timeout=TIMEOUT_SECONDS,
            # With a transport of its own, httpx does not look for a proxy.
            transport=httpx.HTTPTransport() if is_local(base.host) else None,
        )
    except (ImportError, OSError, ValueError, httpx.InvalidURL):
        raise OperatorError(
            "A proxy or a certificate file that the environment names cannot be used. Check ALL_PROXY,"
            " HTTP_PROXY, HTTPS_PROXY, SSL_CERT_FILE and SSL_CERT_DIR. SOCKS proxies are not supported."
            " NO_PROXY lists hosts that are reached without a proxy."
        ) from None


def open_async_client(url: str, key: str) -> httpx.AsyncClient:
    """The same client for a command that waits for several answers at once. Raises as `open_client`."""
    import httpx

    with open_client(url, key) as alike:
        return httpx.AsyncClient(
            base_url=alike.base_url,
            headers=alike.headers,
            timeout=TIMEOUT_SECONDS,
            transport=httpx.AsyncHTTPTransport() if is_local(alike.base_url.host) else None,
        )


def call(
    client: httpx.Client, method: str, path: str, *, media_type: str = "json", **arguments: Any
) -> httpx.Response:
    """Send one request and return the answer. `media_type` must be part of its content type.

    Raises:
        OperatorError: the service cannot be reached, or its answer is an error, with its `status` as a fact.
    """
    return checked(request(client, method, path, **arguments), media_type=media_type)


def request(client: httpx.Client, method: str, path: str, **arguments: Any) -> httpx.Response:
    """Send one request and return the answer, which may be an error.

    Raises:
        OperatorError: the service cannot be reached.
    """
    import httpx

    try:
        return client.request(method, path, **arguments)
    except (httpx.HTTPError, UnicodeError) as error:
        raise OperatorError(
            f"No answer from {_shown(client.base_url)}: {_reason(error)}. Check --url or TRIGGERS_URL,"
            " and that `triggers serve` is running."
        ) from None


def checked(answer: httpx.Response, *, media_type: str = "json") -> httpx.Response:
    """Return the answer if it is no error.

    Raises:
        OperatorError: the answer is an error, or another program sent it.
    """
    if not answer.is_success:
        raise OperatorError(f"{answer.status_code} {_detail(answer)}", status=answer.status_code)
    if answer.content and media_type not in answer.headers.get("content-type", ""):
        raise OperatorError(_NOT_OURS)
    return answer


def ask(client: httpx.Client, method: str, path: str, **arguments: Any) -> dict[str, Any]:
    """Send one request and return the members of the answer. Raises as `call`."""
    return members_of(call(client, method, path, **arguments))


def members_of(answer: httpx.Response) -> dict[str, Any]:
    """The members of an answer that is a JSON object.

    Raises:
        OperatorError: the answer is not a JSON object, so another program sent it. Reading a member that
            the answer does not have raises this error too.
    """
    return members(answer.content)


def members(text: bytes) -> dict[str, Any]:
    """The members of a JSON object. A member `payload` stays the JSON text that it is, as any number may be
    in it. Raises as `members_of`."""
    try:
        raw = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        return _Object(
            (
                name,
                bytes(value).decode() if name == "payload" else json.loads(bytes(value), object_hook=_Object),
            )
            for name, value in raw.items()
        )
    except ValueError:
        raise OperatorError(_NOT_OURS) from None


def page_of(answer: httpx.Response, member: str) -> tuple[list[bytes], str | None]:
    """The items of a page as JSON texts, and the cursor of the next page. Raises as `members_of`."""
    try:
        page = msgspec.json.decode(answer.content, type=dict[str, msgspec.Raw])
        items = msgspec.json.decode(page[member], type=list[msgspec.Raw])
        return [bytes(item) for item in items], msgspec.json.decode(page["next_cursor"], type=str | None)
    except (msgspec.DecodeError, KeyError):
        raise OperatorError(_NOT_OURS) from None


def decode(answer: httpx.Response, kind: type[T]) -> T:
    """The body of an answer as `kind`.

    Raises:
        OperatorError: the body is not of this kind, so another program sent it.
    """
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except msgspec.DecodeError:
        raise OperatorError(_NOT_OURS) from None


def segment(text: str) -> str:
    """A text as one segment of a path."""
    return quote(text, safe="")


class _Object(dict[str, Any]):
    """A JSON object. Every field that a command reads is there if the answer comes from Triggers."""

    def __missing__(self, name: str) -> Any:
        raise OperatorError(_NOT_OURS)


def _read_url(url: str) -> httpx.URL:
    import httpx

    try:
        found = httpx.URL(url)
    except httpx.InvalidURL:
        found = httpx.URL()
    if found.scheme not in {"http", "https"} or not found.host:
        # The message does not repeat the value, which may be a key or contain a password.
        raise OperatorError(
            "The URL of the service must be like http://127.0.0.1:8080. Check --url or TRIGGERS_URL."
        )
    return found


def _shown(url: httpx.URL) -> str:
    """The URL without a user name, a password and a query."""
    return f"{url.scheme}://{url.netloc.decode()}"


def is_local(host: str) -> bool:
    """Whether the host is this machine, which is reached without a proxy."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _reason(error: BaseException) -> str:
    """Why there was no answer, in the words of the system or of this program."""
    import httpx

    match error:
        case httpx.TimeoutException():
            return "it took too long"
        case httpx.ProxyError():
            return "the proxy that the environment names refused the connection"
        case UnicodeError():
            return "the host name or an argument has characters that cannot be sent"
        case OSError() if getattr(error, "library", None) == "SSL":
            return f"TLS failed, {getattr(error, 'verify_message', None) or 'perhaps because the service uses http://'}"
        case OSError(strerror=str()):
            return str(error.strerror)
    cause = error.__cause__ or error.__context__
    return _reason(cause) if cause else "the connection ended too early, or what arrived is not HTTP"


def _detail(answer: httpx.Response) -> str:
    """The description of the error in an answer."""
    try:
        problem = answer.json()
        wrong = [f"{each['pointer']}: {each['detail']}" for each in problem.get("errors", ())]
        return " ".join(each.removeprefix(": ") for each in wrong) or str(problem["detail"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{answer.reason_phrase}. {_NOT_OURS}"
