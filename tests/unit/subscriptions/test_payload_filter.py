"""Payload filters: what they say, what is refused at creation, and that no judgement can run away."""

import random
import subprocess
import sys
import textwrap
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from triggers.errors import Invalid
from triggers.subscriptions import payload_filter
from triggers.subscriptions.filter_cost import LOOP_STEPS
from triggers.subscriptions.payload_filter import (
    MATCHED,
    MAX_COST_NANOSECONDS,
    MAX_EXPRESSION_BYTES,
    NOT_MATCHED,
    Budget,
    FilterInput,
    PayloadFilter,
    Verdict,
    judge_all,
)

ORDER = {
    "action": "opened",
    "number": 120,
    "price": 2.5,
    "user": {"login": "ada", "site admin": True},
    "lines": [{"sku": "a", "price": 10.0}, {"sku": "b", "price": 60}],
    "tags": ["new", "eu"],
    "wanted": ["b", "c"],
    "note": None,
    "type": "kept",
}


def event(payload: Any, **fields: str) -> FilterInput:
    return FilterInput(msgspec.json.encode(payload), fields.pop("type", "order.created"), **fields)


def judge(expression: str, payload: Any = ORDER, **fields: str) -> Verdict:
    return PayloadFilter.compile(expression).judge(event(payload, **fields))


def refusal(expression: str) -> str:
    with pytest.raises(Invalid) as caught:
        PayloadFilter.compile(expression)
    (error,) = caught.value.facts["errors"]
    assert error["pointer"] == "/filter"
    return str(error["detail"])


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ('payload.action == "opened" && payload.number > 100', True),
        ('payload.action == "closed"', False),
        ('has(payload.user) && payload.user.login in ["ada", "grace"]', True),
        ('has(payload.team) && payload.team.name == "x"', False),
        ('event.type.startsWith("order.") && payload.lines.exists(l, l.price >= 50.0)', True),
        ("payload.lines.all(l, l.price > 20)", False),
        ('payload.lines.exists_one(l, l.sku == "a")', True),
        ("payload.lines.exists(l, l.sku in payload.wanted)", True),
        ("payload.lines.exists(l, payload.wanted.exists(w, w == l.sku))", True),
        ('["x", "y"].exists(w, payload.action.contains(w))', False),
        ('payload.user["site admin"]', True),
        ("size(payload.tags) == 2 && payload.tags[1] == 'eu'", True),
        ("payload.note == null", True),
        ('payload.type == "kept" && type(payload.number) == int', True),
        ("payload.number == 120.0 && payload.price > 2", True),
        ('payload.missing == 1 || payload.action == "opened"', True),  # the other side decides
        ('payload.missing == 1 && payload.action == "closed"', False),
        ('event.source == "" && event.subject == ""', True),
        ("timestamp('2024-05-01T00:00:00Z') < timestamp('2024-05-02T00:00:00Z')", True),
        ("payload.number > 100 ? payload.price < 3.0 : false", True),
        ("payload.user == {'login': 'ada', 'site admin': true}", True),
        ("payload.lines // a comment\n != []", True),
    ],
)
def test_a_filter_says_yes_or_no(expression: str, expected: bool) -> None:
    assert judge(expression) == (MATCHED if expected else NOT_MATCHED)


def test_the_event_fields_are_seen_as_they_are() -> None:
    expression = 'event.type == "a.b" && event.source == "/shop" && event.subject.endsWith("7")'
    assert judge(expression, None, type="a.b", source="/shop", subject="order-7") == MATCHED
    assert judge(expression, None, type="a.b", source="/shop") == NOT_MATCHED


@pytest.mark.parametrize("payload", [None, True, 0, -1.5, "text", [], {}, [1, {"a": [None]}]])
def test_any_json_value_can_be_a_payload(payload: Any) -> None:
    assert judge("payload == payload", payload) == MATCHED


@pytest.mark.parametrize(
    ("expression", "payload", "reason"),
    [
        ("payload.a == 1", {}, "Key not found in map"),
        ("has(payload.a.b)", {}, "Key not found in map"),
        ("payload.a > 1", {"a": "x"}, "No matching overloads"),
        ("payload.a", {"a": 1}, "No matching overloads"),  # not a boolean
        ("payload.a", {"a": None}, "No matching overloads"),
        ("payload.a ? true : false", {"a": "true"}, "No matching overloads"),
        ("payload[5] == 1", [1], "Index error"),
        ("10 / payload == 1", 0, "divide by zero"),
        ("payload * 2 > 0", 2**62, "integer overflow"),
        ("int(payload) == 1", "one", "cannot convert"),
        ('payload.a == "x"', {"a": "x\0y"}, "U+0000"),
        ('payload.a == "x"', {"a": "x", "\0": 1}, "U+0000"),
        ("payload.all(x, payload.exists(y, y != x))", [1] * 500, "too long for a payload of this size"),
        ("[1,2,3,4,5,6,7,8,9,0].all(a, " * 4 + "true" + ")" * 4, None, f"{LOOP_STEPS} steps"),
    ],
)
def test_a_failure_is_a_match_that_says_why(expression: str, payload: Any, reason: str) -> None:
    verdict = judge(expression, payload)
    assert verdict.matched
    assert reason in (verdict.failure or "")


def test_a_string_is_never_judged_by_what_stands_before_its_nul() -> None:
    """The binding hands strings over as C strings, which end at the first NUL."""
    assert judge('payload == "a"', "a\0b") != MATCHED


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b'"\\ud800"', b"[" * 100_000, b"1e999", b"9" * 5000])
def test_what_is_not_readable_json_is_a_failure(text: bytes) -> None:
    verdict = PayloadFilter.compile("payload == 1").judge(FilterInput(text, "t"))
    assert verdict.matched
    assert verdict.failure


def test_a_filter_that_does_not_read_the_payload_does_not_decode_it() -> None:
    assert PayloadFilter.compile('event.type == "t"').judge(FilterInput(b"{broken", "t")) == MATCHED


@pytest.mark.parametrize(
    ("expression", "payload"),
    [
        ("payload == 9223372036854775807", 2**63 - 1),
        ("payload == -9223372036854775808", -(2**63)),
        ("payload == 18446744073709551615u", 2**64 - 1),
        ("payload > 9223372036854775807", 2**63),
        ("payload.id == 1 && payload.big[0].a > 1.8e19", {"id": 1, "big": [{"a": 2**64}]}),
        ("payload < -9.2e18", -(2**63) - 1),
        ("payload == '1111111111111111111111'", "1" * 22),
        ("payload == 1.5e300", 1.5e300),
    ],
)
def test_numbers_of_any_size_can_be_compared(expression: str, payload: Any) -> None:
    assert judge(expression, payload) == MATCHED


@pytest.mark.parametrize(
    ("expression", "detail"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("payload.a ==", "line 1, column 13"),
        ("true &&\n  payload.(", "line 2, column 11"),
        ("payload) || (true", "line 1, column 8"),
        ("nothing == 1", "undeclared reference to 'nothing'"),
        ('type == "order"', "line 1, column 6"),
        ("event.type == 3", "no matching overload"),
        ("event.payload == 3", "undeclared"),
        ("payload.number - 1", "but is int"),
        ("1", "but is int"),
        ("payload.a ? 1 : 2", "but is int"),
        ("'text'", "but is string"),
        ("payload.a + payload.b == 2", "`+` is not supported"),
        ("true &&\n payload.a.matches('x')", "line 2, column 19: `matches` is not supported"),
        ("payload.map(x, x) == []", "map() and filter() are not supported"),
        ("payload.filter(x, true) == []", "map() and filter() are not supported"),
        ("timestamp(payload).getHours('Europe/Berlin') == 1", "`getHours` is not supported"),
        ("bytes(payload) == b'x'", "`bytes` is not supported"),
        ("google.protobuf.Struct{} == payload", "named type"),
        ("payload.a.contains(payload.b)", "contains()"),
        ("payload.exists(x, payload.s.contains(x))", "contains()"),
        ("payload.all(a, payload.all(b, payload.all(c, a == b || b == c)))", "Nest fewer loops"),
        ("(" * 100 + "true" + ")" * 100, "recursion"),
        ("true" + " || true" * 300, f"{MAX_EXPRESSION_BYTES} are allowed"),
        ("payload == 'é\ud800'", "character 14 is half"),
        ("payload == 'a\0'", "U+0000"),
    ],
)
def test_what_cannot_be_a_filter_is_refused_with_its_place(expression: str, detail: str) -> None:
    assert detail in refusal(expression)


def test_the_longest_expression_is_accepted() -> None:
    expression = "true".ljust(MAX_EXPRESSION_BYTES)
    assert judge(expression) == MATCHED
    assert "2049 bytes" in refusal(expression + " ")


# --- bounds ------------------------------------------------------------------------------------------------

LARGEST = 256 * 1024


def cost(expression: str, size_bytes: int, values: int) -> int:
    return PayloadFilter.compile(expression)._cost.nanoseconds(size_bytes, values)


def test_ordinary_filters_are_judged_on_ordinary_payloads_of_the_largest_size() -> None:
    """Real webhooks have a value every 24 bytes or more. To search texts costs more than to compare them."""
    for expression, size in (
        ('payload.action == "opened" && payload.user.login in ["ada", "grace"]', LARGEST),
        ('has(payload.labels) && payload.title.contains("urgent")', LARGEST * 2 // 3),
    ):
        assert cost(expression, size, size // 24) <= MAX_COST_NANOSECONDS
    looping = 'payload.labels.exists(l, l.name == "bug")'
    assert cost(looping, LARGEST // 4, LARGEST // 4 // 24) <= MAX_COST_NANOSECONDS
    joining = "payload.lines.exists(l, l.sku in payload.wanted)"
    assert cost(joining, 5120, 5120 // 24) <= MAX_COST_NANOSECONDS


@pytest.mark.parametrize(
    ("expression", "power"),
    [
        ("payload == payload", 1),
        ("payload.a.all(x, x == 1)", 1),
        ("payload.a.all(x, x.b.all(y, y.c.all(z, z in [1, 2])))", 1),
        ("payload.a.all(x, x.b == payload.b)", 1),  # read in step with x.b
        ("payload.a.all(x, x in payload.b)", 2),
        ("payload.a.all(x, size(payload.b) > 1)", 2),
        ("payload.a.all(x, payload.b == payload.b)", 2),
        ("payload.a.all(x, payload in [x, payload])", 2),
        ("payload.a.all(x, payload.all(y, y == x))", 2),
        ("payload.a.all(x, x.b.all(y, y in x.c))", 2),
        ("payload.a.all(payload, payload == payload)", 1),  # the name is the loop's
        ("payload.a.all(x, (x.b ? payload : x) == (x.c ? payload : x))", 2),
    ],
)
def test_the_cost_grows_with_the_payload_as_fast_as_the_work(expression: str, power: int) -> None:
    """Judged by doubling bytes and values together, far from the limit of steps."""
    small, large = cost(expression, 1600, 50), cost(expression, 3200, 100)
    assert 2 ** (power - 0.5) < large / small < 2 ** (power + 0.3)


def expressions(names: tuple[str, ...] = ("payload",), depth: int = 3) -> st.SearchStrategy[str]:
    name = st.sampled_from(names)
    value = st.one_of(
        name,
        st.builds("{}{}".format, name, st.sampled_from([".a", ".l", ".l[0]", "[0]"])),
        st.sampled_from(["1", '"ab"', "1.5", "null", "[1, 2]", "{'a': 1}", "event.type"]),
        st.builds("[{}, {}]".format, name, name),
        st.builds("string({})".format, name),
    ).map("dyn({})".format)
    simple = st.one_of(
        st.builds("{} {} {}".format, value, st.sampled_from(["==", "!=", "<", "in"]), value),
        st.builds("size({}) > 3".format, value),
        st.builds("{}.contains('ab')".format, value),
    )
    if depth == 0:
        return simple
    inner = expressions(names, depth - 1)
    variable = f"v{depth}"
    return st.one_of(
        simple,
        st.builds("({} {} {})".format, inner, st.sampled_from(["&&", "||"]), inner),
        st.builds(
            f"{{}}.{{}}({variable}, {{}})".format,
            value,
            st.sampled_from(["all", "exists", "exists_one"]),
            expressions((*names, variable), depth - 1),
        ),
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.sampled_from("al") | st.text(), inner),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(expressions(), json_values)
def test_every_accepted_filter_has_a_verdict_on_every_payload(expression: str, payload: Any) -> None:
    try:
        compiled = PayloadFilter.compile(expression)
    except Invalid:
        return
    verdict = compiled.judge(event(payload))
    assert verdict.matched or verdict.failure is None
    assert verdict == compiled.judge(event(payload))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60) | st.text(alphabet='()[]{}!-.?:"&|<>=+payloadxe 1', max_size=80))
def test_any_text_compiles_or_is_refused(expression: str) -> None:
    try:
        PayloadFilter.compile(expression)
    except Invalid as error:
        (found,) = error.facts["errors"]
        assert found["pointer"] == "/filter"


@settings(max_examples=100, deadline=None)
@given(json_values)
def test_values_are_never_undercounted(payload: Any) -> None:
    def count(value: Any) -> int:
        if isinstance(value, dict):
            return 1 + sum(count(item) for item in value.values())
        return 1 + sum(count(item) for item in value) if isinstance(value, list) else 1

    assert event(payload).values >= count(payload)


@settings(max_examples=100, deadline=None)
@given(json_values)
def test_what_a_filter_sees_equals_the_payload(payload: Any) -> None:
    seen = PayloadFilter.compile("payload.a == payload.b").judge(event({"a": payload, "b": payload}))
    has_nul = "\\u0000" in msgspec.json.encode(payload).decode()
    assert (seen == MATCHED) != has_nul


def test_attacks_end_without_hurting_the_process() -> None:
    """In a process of its own with 1 GiB of memory: a crash or a blow-up there fails here."""
    attacks = textwrap.dedent("""
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
        import msgspec
        from triggers.errors import Invalid
        from triggers.subscriptions.payload_filter import FilterInput, PayloadFilter
        big = 256 * 1024
        expressions = [
            '["aaaaaaaa"]' + '.map(a, a + a)' * 30 + ' == []',
            '[[1,2,3,4,5,6,7,8]]' + '.map(a, a + a)' * 26 + '[0].size() == 1',
            '[0,1,2,3,4,5,6,7,8,9].all(a, ' * 9 + 'true' + ')' * 9,
            'payload.all(a, ' * 9 + 'true' + ')' * 9,
            'payload.all(x, payload == payload)',
            'payload.contains("' + 'a' * 1000 + 'b")',
            'payload.matches("(a+)+$")', 'payload.matches("(((a{100}){100}){100})")',
            '||'.join(['payload == payload'] * 100), '||'.join(['payload != payload'] * 100),
            '[' * 900 + ']' * 900, '!' * 2000 + 'true', '-' * 2000 + '1', '{1:' * 600, 'true?1:' * 250 + '1',
            'payload' + '.a' * 1000, 'payload' + '[0]' * 600, 'size(' * 400,
            '!!(!!!!!!(!!!!(((((!!(!!(!!!!((' * 60, 'payload.filter(x, true) == []', 'string(payload) == "x"',
            'timestamp(payload) == timestamp(payload)', 'duration(payload) == duration(payload)',
            'payload in payload', 'payload < payload', '-payload < 0',
        ]
        payloads = [
            [1] * (big // 2), ['y'] * (big // 4), {'k%d' % i: i for i in range(big // 16)}, 'a' * big,
            '1h' * (big // 2), 'é' * (big // 2), [[[1] * 40] * 40] * 40, ['x' * 500] * 500,
        ]
        deep = b'[' * 900 + b']' * 900
        events = [FilterInput(text, 't') for text in [deep, *map(msgspec.json.encode, payloads)]]
        judged = refused = 0
        for expression in expressions:
            try:
                compiled = PayloadFilter.compile(expression)
            except Invalid:
                refused += 1
                continue
            for event in events:
                compiled.judge(event)
                judged += 1
        print(judged, refused)
    """)
    done = subprocess.run([sys.executable, "-c", attacks], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    judged, refused = map(int, done.stdout.split())
    assert judged >= 9 * 9
    assert refused >= 12


# --- many filters ------------------------------------------------------------------------------------------


class Clock:
    """Moves on by a second at every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1
        return self.now


def test_an_event_is_judged_by_every_filter() -> None:
    filters = {
        "yes": PayloadFilter.compile("payload.number == 120"),
        "no": PayloadFilter.compile("payload.number == 121"),
        "broken": PayloadFilter.compile("payload.nothing == 1"),
    }
    verdicts = judge_all(filters, event(ORDER), Budget(60))
    assert verdicts["yes"] == MATCHED
    assert verdicts["no"] == NOT_MATCHED
    assert verdicts["broken"].matched
    assert verdicts["broken"].failure


def test_no_filters_take_no_time() -> None:
    budget = Budget(1, Clock())
    assert judge_all({}, event(ORDER), budget) == {}
    assert budget.seconds_left == 1


def test_what_the_budget_does_not_reach_matches_and_says_so() -> None:
    no = PayloadFilter.compile("false")
    verdicts = judge_all(dict.fromkeys(range(5), no), event(ORDER), Budget(2.5, Clock()))
    assert [verdicts[key] for key in (0, 1, 2)] == [NOT_MATCHED] * 3
    for key in (3, 4):
        assert verdicts[key] == Verdict(matched=True, failure="the time for this event's filters was used up")


def test_a_budget_is_shared_by_the_calls_it_is_given_to() -> None:
    no = PayloadFilter.compile("false")
    budget = Budget(3, Clock())
    first = judge_all({"a": no, "b": no}, event(ORDER), budget)
    second = judge_all({"a": no, "b": no}, event(ORDER), budget)
    assert [verdict.matched for verdict in (*first.values(), *second.values())] == [False, False, False, True]


def test_the_payload_is_decoded_once_for_all_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = []
    decode = payload_filter._decode_json
    monkeypatch.setattr(payload_filter, "_decode_json", lambda text: decoded.append(text) or decode(text))
    filters = {n: PayloadFilter.compile(f"payload.number == {n}") for n in range(5)}
    decoded.clear()
    judge_all(filters, event(ORDER), Budget(60))
    assert len(decoded) == 1


def test_the_order_of_events_does_not_matter_to_a_compiled_filter() -> None:
    compiled = PayloadFilter.compile("payload.exists(x, x == 5)")
    events = [(FilterInput(msgspec.json.encode(list(range(n))), "t"), n > 5) for n in range(12)] * 20
    random.Random(7).shuffle(events)
    assert all(compiled.judge(each).matched is expected for each, expected in events)
