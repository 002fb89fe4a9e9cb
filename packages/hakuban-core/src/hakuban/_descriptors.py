"""Names of objects and tags: any JSON, equal by meaning and not by spelling (the crate's `descriptor.rs`)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn, final

import msgspec
from typing_extensions import override

from ._canonical import canonical, encode
from ._exceptions import InvalidDescriptorError
from ._limits import MOST_DESCRIPTOR_BYTES, MOST_GIVEN_TAGS, MOST_TAGS
from ._logger import logger
from ._plain_values import iterating, plain_text
from ._text import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._canonical import Json


_LIST_OF_A_STRING = re.compile(r'\["(?:[^"\\]|\\.)*"\]', re.DOTALL).fullmatch


def _check_tags(number: int) -> None:
    if number > MOST_TAGS:
        raise InvalidDescriptorError(f"more than {MOST_TAGS:,} tags, which peers ignore; use fewer")


def check_size(name: ObjectDescriptor | TagDescriptor) -> None:
    """Refuse a name that peers would ignore; `from_json` reads what peers send, whatever it is.

    :raises InvalidDescriptorError: there are more than 1,000 tags or 64 KiB.
    """
    texts = [name.json_text]
    if isinstance(name, ObjectDescriptor):
        _check_tags(len(name.tags))
        texts += [tag.json_text for tag in name.tags]
    size = sum(len(text) if text.isascii() else len(text.encode()) for text in texts)
    if size > MOST_DESCRIPTOR_BYTES:
        raise InvalidDescriptorError(
            f"its JSON texts have {size:,} bytes, and peers accept {MOST_DESCRIPTOR_BYTES:,}: name the object more shortly,"
            " and put the rest into its state"
        )


@lru_cache(256)
def _note_list(text: str) -> None:
    """Log once that a tag is probably a mistake: it is legal, and matches no tag that is the string itself."""
    logger.warning(
        "the tag %s is a list of one string: for the tag %s write the string alone",
        text,
        text[1:-1],
    )


@final
class TagDescriptor:
    """The name of a tag: one JSON value. Immutable, hashable, equal by meaning.

    :param json: any JSON value, or a TagDescriptor. `1` and `1.0` are two tags, `{"a": 1, "b": 2}` and
        `{"b": 2, "a": 1}` one. Of an enum or a numpy scalar the value counts; integers have 64 bits.
    :raises InvalidDescriptorError: the value is not JSON, or over 64 KiB, which peers would ignore.
    """

    __slots__ = ("_hash", "_text")

    def __init__(self, json: TagDescriptor | Json) -> None:
        if isinstance(json, TagDescriptor):
            self._text: str = json._text
        else:
            self._text = encode(json)
            check_size(self)
            if isinstance(json, (list, tuple)) and _LIST_OF_A_STRING(self._text):
                _note_list(self._text)
        self._hash = hash(self._text)

    @override
    def __init_subclass__(cls) -> NoReturn:
        # its `__eq__` would run where no code of the user's may
        raise TypeError("TagDescriptor cannot be subclassed")

    @classmethod
    def from_json(cls, text: str) -> TagDescriptor:
        """Read a tag from JSON text (the crate's `from_json_string`), as the crate reads what peers send.

        So an integer beyond 64 bits becomes a float; and whether a name is too large for peers is only found out where
        it is used.

        :raises InvalidDescriptorError: the text is not JSON.
        :raises TypeError: it is no text.
        """
        tag = cls.__new__(cls)
        tag._text = canonical(plain_text("a JSON text", text))
        tag._hash = hash(tag._text)
        return tag

    @property
    def json_text(self) -> str:
        """The canonical JSON text: compact, keys sorted, non-ASCII as it is."""
        return self._text

    @property
    def text_size(self) -> int:
        """Characters of the canonical text."""
        return len(self._text)

    @property
    def json(self) -> Json:
        """The value; a new one at each look."""
        return msgspec.json.decode(self._text)

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, TagDescriptor) and self._text == other._text

    @override
    def __hash__(self) -> int:
        return self._hash

    def __lt__(self, other: TagDescriptor) -> bool:
        if not isinstance(other, TagDescriptor):
            return NotImplemented
        return self._text < other._text

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return TagDescriptor.from_json, (self._text,)

    @override
    def __repr__(self) -> str:
        return f"TagDescriptor({self})"

    @override
    def __str__(self) -> str:
        return printable(self._text)


@final
class ObjectDescriptor:
    """The name of an object: a set of tags and one JSON value. Immutable, hashable, equal by meaning.

    Written as `ObjectDescriptor(tags, json)`, or with one argument: a JSON value names an object without tags, a tuple
    is the crate's spelling, `(tags, json)` or `(json,)`, and a descriptor stays what it is. Inside of JSON a tuple is
    an array.

    :param tags: tags, or JSON values that name tags; their order and repetitions mean nothing.
    :param json: any JSON value; the query, where the object is computed on demand. Of an enum or a numpy scalar the
        value counts; integers have 64 bits.
    :raises InvalidDescriptorError: a value is not JSON, or there are more than 1,000 tags or 64 KiB, which peers would
        ignore.
    :raises TypeError: `tags` is a string, which would be a set of letters; or a tuple is none of those.
    """

    __slots__ = ("_hash", "_tags", "_text")

    def __init__(
        self, tags: Iterable[TagDescriptor | Json] | ObjectDescriptor | Json, json: Json = ...
    ) -> None:
        if json is not ...:
            self._name(tags, json)
            return
        name: Any = tags
        match name:
            case ObjectDescriptor():
                self._set(name._tags, name._text)
            case (_, _) if isinstance(name, tuple):
                self._name(*name)
            case (alone,) if isinstance(name, tuple):
                self._name((), alone)
            case tuple():
                raise TypeError(
                    f"a tuple that names an object is (tags, json) or (json,), not one of {len(name)}: write a list for a"
                    " JSON array"
                )
            case _:
                self._name((), name)

    @override
    def __init_subclass__(cls) -> NoReturn:
        # its `__eq__` would run where no code of the user's may
        raise TypeError("ObjectDescriptor cannot be subclassed")

    def _name(self, tags: Any, json: Json) -> None:
        if isinstance(tags, (str, bytes, dict, TagDescriptor, ObjectDescriptor)):
            raise TypeError(
                f"tags are a list of tags, not {type(tags).__name__}: write [{tags!r:.100}]"
            )
        found: set[TagDescriptor] = set()
        for count, tag in enumerate(iterating("tags are a list of tags", tags)):
            if count > MOST_GIVEN_TAGS:
                raise InvalidDescriptorError(
                    f"more than {MOST_GIVEN_TAGS:,} tags, if most are the same ones"
                )
            found.add(tag if isinstance(tag, TagDescriptor) else TagDescriptor(tag))
            _check_tags(len(found))  # at once: there may be no end of them
        self._set(tuple(sorted(found)), encode(json))
        check_size(self)

    @classmethod
    def from_json(cls, tags: Iterable[str], text: str) -> ObjectDescriptor:
        """Read a descriptor from JSON texts (the crate's `from_json_strings`); see `TagDescriptor.from_json`.

        :raises InvalidDescriptorError: a text is not JSON.
        :raises TypeError: one is no text, or `tags` are one.
        """
        if isinstance(tags, (str, bytes)):
            raise TypeError(f"tags are a list of JSON texts: write [{tags!r:.100}]")
        descriptor = cls.__new__(cls)
        found = {
            TagDescriptor.from_json(tag) for tag in iterating("tags are a list of JSON texts", tags)
        }
        descriptor._set(tuple(sorted(found)), canonical(plain_text("a JSON text", text)))
        return descriptor

    def _set(self, tags: tuple[TagDescriptor, ...], text: str) -> None:
        self._tags = tags
        self._text = text
        self._hash = hash((tags, text))

    @property
    def tags(self) -> tuple[TagDescriptor, ...]:
        """The tags, each once, in the order of their texts."""
        return self._tags

    @property
    def json_text(self) -> str:
        """The canonical JSON text: compact, keys sorted, non-ASCII as it is."""
        return self._text

    @property
    def text_size(self) -> int:
        """Characters of the canonical texts of tags and value together."""
        return len(self._text) + sum(tag.text_size for tag in self._tags)

    @property
    def json(self) -> Json:
        """The value; a new one at each look."""
        return msgspec.json.decode(self._text)

    @override
    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, ObjectDescriptor)
            and self._text == other._text
            and self._tags == other._tags
        )

    @override
    def __hash__(self) -> int:
        return self._hash

    @override
    def __reduce__(self) -> tuple[object, ...]:
        return ObjectDescriptor.from_json, ([tag.json_text for tag in self._tags], self._text)

    @override
    def __repr__(self) -> str:
        return f"ObjectDescriptor({self})"

    @override
    def __str__(self) -> str:
        return printable(f"[{','.join([tag._text for tag in self._tags])}]:{self._text}")


def object_named(name: ObjectDescriptor | Json) -> ObjectDescriptor:
    """Read the name of an object where one argument has to hold all of it; see `ObjectDescriptor`."""
    return name if isinstance(name, ObjectDescriptor) else ObjectDescriptor(name)
