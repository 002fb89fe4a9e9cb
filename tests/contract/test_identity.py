"""Names mean the same on both sides of a link, however they are spelled."""

from __future__ import annotations

from itertools import permutations

import pytest

from hakuban import InvalidDescriptorError, ObjectDescriptor
from support.raw_node import RawNode, expose, observe
from support.scenes import Scene, fresh, story
from support.shapes import grow
from support.tellings import columns

SAME = [
    ("1", " 1 "),
    ("1.0", "1e0"),
    ("0.1", "0.10"),
    ("0.0", "-0"),
    ("18446744073709551616", "1.8446744073709552e19"),
    ("-9223372036854775809", "-9.223372036854775808e18"),
    ('{"b":1,"a":[{"d":2,"c":3}]}', '{"a": [{"c": 3, "d": 2}], "b": 1}'),
    ('{"a":1,"a":2}', '{"a":2}'),
    (r'"\u00e9\/\ud83e\udd80"', '"é/🦀"'),
]
"""Pairs of texts of one name."""

DIFFERENT = [
    *("1", "1.0", "true", '"1"', "[1]", "0", "-1", "null", "false", '""', "[]", "{}", "[1,2]", "[2,1]"),
    *('"é"', '"e\u0301"', "18446744073709551615", "18446744073709551616", "9223372036854775808"),
]  # fmt: skip
"""Texts of names that all differ."""


@pytest.mark.promise("identity")
@pytest.mark.parametrize("place", ["object", "tag"])
@story
async def test_spelling_does_not_matter(scene: Scene, place: str) -> None:
    a, b = (await grow(scene, "router")).leaves
    for left, right in SAME:
        one, other = (
            ObjectDescriptor.from_json([text], '"x"')
            if place == "tag"
            else ObjectDescriptor.from_json([], text)
            for text in (left, right)
        )
        with a.object(one).observe() as seen, b.object(other).expose() as exposed:
            exposed.set_object_data(left)
            await scene.loop(seen).until(fresh(left))
            assert seen.descriptor == exposed.descriptor


@pytest.mark.promise("identity")
@story
async def test_neither_the_order_of_tags_nor_repetitions_matter(scene: Scene) -> None:
    a, b = (await grow(scene, "router")).leaves
    for tags in permutations([{"t": 1}, "u", 3]):
        with a.object([*tags, "u"], "x").observe() as seen:
            with b.object(sorted(tags, key=str), "x").expose() as exposed:
                exposed.set_object_data("data")
                await scene.loop(seen).until(fresh("data"))


@pytest.mark.promise("identity")
@story
async def test_names_that_mean_something_else_are_other_objects(scene: Scene) -> None:
    a, b = (await grow(scene, "router")).leaves
    things = [
        *(ObjectDescriptor.from_json([], text) for text in DIFFERENT),
        *(ObjectDescriptor.from_json([text], '"x"') for text in DIFFERENT),
        ObjectDescriptor(["t", "u"], "x"),
    ]
    assert len(set(things)) == 2 * len(DIFFERENT) + 1
    observing = {thing: a.object(thing).observe() for thing in things}
    exposing = [b.object(thing).expose() for thing in things]
    for contract in exposing:
        contract.set_object_data(str(contract.descriptor))
    for thing, seen in observing.items():
        await scene.loop(seen).until(fresh(str(thing)))
    await scene.echo(a, b)
    for thing, seen in observing.items():
        assert seen.object_data() == str(thing)
    a.close()
    b.close()


@pytest.mark.promise("identity")
@pytest.mark.parametrize("scene", columns("ws", loops=False), indirect=True)
@story
async def test_a_peer_may_spell_as_it_likes(scene: Scene) -> None:
    node = scene.node()
    url = (await scene.listen(node)).value.url
    with RawNode(url, name="observer") as observer, RawNode(url, name="exposer") as exposer:
        observer.tell(observe('{"b" : 1.0,"a":"\\u00e9"}', ['"u"', ' "t"']))
        exposer.tell(expose(' {"a":"é", "b":1e0}', 1, ['"\\u0074"', '"u"', '"t"']))
        observer.wait_stream('{"a":"é","b":1.0}')
        exposer.wait_sink('{"a":"é","b":1.0}')
        (thing,) = node.snapshot().objects
        assert thing["descriptor"] == {"tags": ["t", "u"], "json": {"a": "é", "b": 1.0}}


@pytest.mark.parametrize(
    "value", [float("nan"), float("-inf"), "\ud800", b"bytes", {1: "key"}, {"a", "set"}, 10**400]
)
@story
async def test_what_json_can_not_say_names_nothing(scene: Scene, value: object) -> None:
    node = scene.node()
    with pytest.raises(InvalidDescriptorError):
        node.object([], value)
    with pytest.raises(InvalidDescriptorError):
        node.object([value], "x")
    with pytest.raises(InvalidDescriptorError):
        node.tag([value])
