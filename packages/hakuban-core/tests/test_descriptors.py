"""Names of objects and tags: which are the same, as the crate reads them; which are none."""

from __future__ import annotations

import json
import math
import pickle
import struct
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hakuban._descriptors import ObjectDescriptor, TagDescriptor
from hakuban._exceptions import InvalidDescriptorError


def text(value: str) -> ObjectDescriptor:
    return ObjectDescriptor.from_json([], value)


SAME = [
    ("1", " 1 "),
    ("1.0", "1e0"),
    ("0.1", "0.10"),
    ("0.0", "-0.0"),
    ("-0", "0.0"),
    ("18446744073709551616", "1.8446744073709552e19"),
    ("18446744073709551615", "18446744073709551615"),
    ("-9223372036854775808", "-9223372036854775808"),
    ("-9223372036854775809", "-9.223372036854775809e18"),
    ("100000000000000000000000", "1e23"),
    ('{"b":1,"a":2}', '{"a":2,"b":1}'),
    ('{"a":1,"a":2}', '{"a":2}'),
    ('{ "a" : [ 1 , 2 ] }', '{"a":[1,2]}'),
    (r'"\u00e9"', '"é"'),
    (r'"\ud83e\udd80"', '"🦀"'),
    (r'"\u0000"', r'"\u0000"'),
    ('"/"', r'"\/"'),
    (r'"\u0041"', '"A"'),
]
DIFFERENT = [
    ("1", "1.0"),
    ("0", "-0"),
    ("18446744073709551615", "18446744073709551616"),
    ("9223372036854775807", "9223372036854775808"),
    ("9223372036854775808", "9223372036854775809"),
    ("true", "1"),
    ("false", "0"),
    ("null", "0"),
    ('""', "null"),
    ("[1,2]", "[2,1]"),
    ('"1"', "1"),
    ('"é"', '"e\u0301"'),
    ("{}", "[]"),
    ('{"a":null}', "{}"),
]


@pytest.mark.promise("identity")
@pytest.mark.parametrize(("left", "right"), SAME)
def test_spelling_does_not_matter(left: str, right: str) -> None:
    assert text(left) == text(right)
    assert hash(text(left)) == hash(text(right))
    assert text(left).json_text == text(right).json_text
    assert TagDescriptor.from_json(left) == TagDescriptor.from_json(right)


@pytest.mark.promise("identity")
@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_meaning_does_matter(left: str, right: str) -> None:
    assert text(left) != text(right)
    assert TagDescriptor.from_json(left) != TagDescriptor.from_json(right)


@pytest.mark.promise("identity")
def test_tags_are_a_set() -> None:
    assert ObjectDescriptor(["t", "u"], 1) == ObjectDescriptor(["u", "t"], 1)
    assert ObjectDescriptor(["t", "t"], 1) == ObjectDescriptor(["t"], 1)
    assert ObjectDescriptor(["t"], 1) != ObjectDescriptor([], 1)
    assert ObjectDescriptor.from_json(["1"], "1") != ObjectDescriptor.from_json(["1.0"], "1")
    assert ObjectDescriptor(["u", "t", "t"], 1).tags == (TagDescriptor("t"), TagDescriptor("u"))


@pytest.mark.promise("identity")
@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"b": 1, "a": [2, {"d": 3, "c": 4}]}, {"a": [2, {"c": 4, "d": 3}], "b": 1}),
        ((1, 2), [1, 2]),
    ],
)
def test_values_that_say_the_same_in_json_are_the_same_name(left: object, right: object) -> None:
    assert ObjectDescriptor([left], left) == ObjectDescriptor([right], right)


def test_python_equality_does_not_leak_in() -> None:
    values: list[object] = [1, True, 0, False, None, "", "1", [], {}]
    assert len({TagDescriptor(value) for value in values}) == len(values)
    assert TagDescriptor("x") != "x"
    assert ObjectDescriptor([], "x") != "x"
    assert ObjectDescriptor([], "x") != TagDescriptor("x")


def test_keys_are_sorted_at_every_depth_and_by_code_point() -> None:
    value = {"b": {"z": 1, "a": 2}, "a": 1, "é": 2, "Z": 3, "\U0001f980": 4, "\uffff": 5}
    assert TagDescriptor(value).json_text == (
        '{"Z":3,"a":1,"b":{"a":2,"z":1},"é":2,"\uffff":5,"\U0001f980":4}'
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "null"),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (-5, "-5"),
        (2**64 - 1, "18446744073709551615"),
        (-(2**63), "-9223372036854775808"),
        ("", '""'),
        ('a"b\\c\n\x01', r'"a\"b\\c\n\u0001"'),
        ("é🦀", '"é🦀"'),
        ([1, "a", None], '[1,"a",null]'),
        ({"a": {}}, '{"a":{}}'),
    ],
)
def test_the_canonical_text_is_compact(value: object, expected: str) -> None:
    assert TagDescriptor(value).json_text == expected
    assert TagDescriptor.from_json(expected).json_text == expected
    assert TagDescriptor(value).json == value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, "1.0"),
        (-1.5, "-1.5"),
        (0.0, "0.0"),
        (-0.0, "0.0"),
        (0.1, "0.1"),
        (0.00001, "0.00001"),
        (0.000001, "1e-6"),
        (0.0000015, "1.5e-6"),
        (123456.789, "123456.789"),
        (1e15, "1000000000000000.0"),
        (1e16, "1e+16"),
        (1.8446744073709552e19, "1.8446744073709552e+19"),
        (1e300, "1e+300"),
        (5e-324, "5e-324"),
        (1.7976931348623157e308, "1.7976931348623157e+308"),
    ],
)
def test_floats_are_written_as_the_crate_writes_them(value: float, expected: str) -> None:
    with pytest.warns(UserWarning, match="floating-point"):
        tag = TagDescriptor(value)
    assert tag.json_text == expected
    assert TagDescriptor.from_json(expected) == tag


@pytest.mark.filterwarnings("ignore:a descriptor with a floating-point")
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_survives_its_text(value: float) -> None:
    written = TagDescriptor(value).json_text
    assert json.loads(written) == value
    assert "." in written or "e" in written  # never taken for an integer


@pytest.mark.filterwarnings("ignore:a descriptor with a floating-point")
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
        ),
    )
)
def test_the_canonical_text_is_canonical(value: object) -> None:
    tag = TagDescriptor(value)
    assert TagDescriptor.from_json(tag.json_text) == tag
    assert TagDescriptor.from_json(json.dumps(value, indent=2)) == tag
    assert TagDescriptor(tag.json) == tag


def test_floats_warn_where_they_are_written_and_not_where_they_are_read() -> None:
    with pytest.warns(UserWarning, match="prefer integers or strings"):
        ObjectDescriptor([], 0.5)
    with pytest.warns(UserWarning, match="prefer integers or strings"):
        TagDescriptor({"a": [0.5]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ObjectDescriptor.from_json(["0.5"], "[0.5]")


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        10**400,
        "\ud800",
        {"\udfff": 1},
        b"bytes",
        {1: "a"},
        {None: "a"},
        {1, 2},
        object(),
        [[object()]],
    ],
)
def test_what_json_can_not_say_names_nothing(value: object) -> None:
    with pytest.raises(InvalidDescriptorError):
        TagDescriptor(value)
    with pytest.raises(InvalidDescriptorError):
        ObjectDescriptor([], value)


@pytest.mark.parametrize(
    "broken",
    [
        "",
        " ",
        "nul",
        "NaN",
        "Infinity",
        "-Infinity",
        "1E400",
        "-1e400",
        "01",
        "1.",
        ".5",
        "+1",
        "'a'",
        '"a',
        '"\x01"',
        r'"\ud800"',
        r'"\x41"',
        "[1,]",
        "[1 2]",
        '{"a"}',
        '{"a":1,}',
        "{1:2}",
        "1 2",
        "[",
        "]",
        '{"a":[1}',
        "1" * 5000 + "x",
    ],
)
def test_what_is_not_json_names_nothing(broken: str) -> None:
    with pytest.raises(InvalidDescriptorError):
        TagDescriptor.from_json(broken)
    with pytest.raises(InvalidDescriptorError):
        ObjectDescriptor.from_json([broken], "1")


def test_a_number_of_thousands_of_digits_is_read_or_refused_and_takes_no_time() -> None:
    assert TagDescriptor.from_json("1" + "0" * 300) == TagDescriptor.from_json("1e300")
    with pytest.raises(InvalidDescriptorError):
        TagDescriptor.from_json("1" * 100_000)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_ends_where_it_ends_for_the_crate(opening: str, closing: str) -> None:
    deepest = opening * 127 + "1" + closing * 127
    assert TagDescriptor.from_json(deepest).json_text == deepest
    assert TagDescriptor(json.loads(deepest)).json_text == deepest
    for levels in (128, 200, 100_000):
        with pytest.raises(InvalidDescriptorError, match="127 levels"):
            TagDescriptor.from_json(opening * levels + "1" + closing * levels)
    with pytest.raises(InvalidDescriptorError, match="127 levels"):
        TagDescriptor(json.loads(opening * 128 + "1" + closing * 128))


def test_brackets_in_strings_are_no_nesting() -> None:
    brackets = json.dumps('"' + "[{" * 500 + "\\")
    assert TagDescriptor.from_json(brackets).json == '"' + "[{" * 500 + "\\"
    assert (
        TagDescriptor.from_json(f"[{brackets},{brackets}]").json_text == f"[{brackets},{brackets}]"
    )


def test_a_large_descriptor_is_a_descriptor() -> None:
    value = {"text": "x" * 10_000, "list": list(range(10_000))}
    assert ObjectDescriptor([], value).json == value


def test_tags_are_no_string() -> None:
    for wrong in ("weather", b"weather", {"weather": 1}):
        with pytest.raises(TypeError, match="write \\["):
            ObjectDescriptor(wrong, 1)


def test_tags_are_names_or_values() -> None:
    tag = TagDescriptor({"a": 1})
    assert ObjectDescriptor([tag], 1) == ObjectDescriptor([{"a": 1}], 1)
    assert ObjectDescriptor(iter([tag, "b"]), 1).tags == (TagDescriptor("b"), tag)


def test_what_was_named_stays_so_when_the_value_changes() -> None:
    value = {"list": [1, 2]}
    thing = ObjectDescriptor([value], value)
    value["list"].append(3)
    assert thing.json == {"list": [1, 2]}
    thing.json["list"].append(4)
    thing.tags[0].json["list"].append(4)
    assert thing.json == thing.tags[0].json == {"list": [1, 2]}


def test_names_can_be_pickled_sorted_and_shown() -> None:
    thing = ObjectDescriptor(["t", "u"], {"a": "é"})
    assert pickle.loads(pickle.dumps(thing)) == thing
    assert pickle.loads(pickle.dumps(thing.tags)) == thing.tags
    assert sorted([TagDescriptor("b"), TagDescriptor("a")]) == [
        TagDescriptor("a"),
        TagDescriptor("b"),
    ]
    assert str(thing) == '["t","u"]:{"a":"é"}'
    assert repr(thing) == 'ObjectDescriptor(["t","u"]:{"a":"é"})'
    assert str(TagDescriptor("t")) == '"t"'
    assert repr(TagDescriptor("t")) == 'TagDescriptor("t")'
    assert thing.json_text == '{"a":"é"}'


def test_many_names_that_differ_in_their_tags_only_do_not_collide() -> None:
    things = [ObjectDescriptor([number], "same") for number in range(2_000)]
    assert len({hash(thing) for thing in things}) > 1_990
    assert len({*things}) == 2_000


def test_floats_of_the_same_whole_part_do_not_collide() -> None:
    texts = [
        repr(struct.unpack("<d", struct.pack("<Q", 0x3FF0000000000000 + n))[0]) for n in range(500)
    ]
    assert len({hash(TagDescriptor.from_json(item)) for item in texts}) > 490
