"""Types that observers ask for: those that msgspec accepts, but can never fill."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# What decoded values are made of, where no type is more precise.
_DECODED: Final = (bool, int, float, str, bytes, list, dict, type(None))


def foreign_type(type: Any, is_known: Callable[[Any], bool]) -> Any:
    """Return a class in a type that msgspec leaves to others, who do not know it, so that no value can be one; else None.

    :param is_known: whether others know a class.
    :raises TypeError: msgspec does not know the type.
    """
    import msgspec.inspect  # takes milliseconds, and few programs observe with a type

    kinds = [msgspec.inspect.type_info(type)]
    seen: set[int] = set()
    while kinds:
        kind = kinds.pop()
        if isinstance(kind, msgspec.inspect.CustomType):
            cls: Any = kind.cls
            if _never_decoded(cls) and not is_known(cls):
                return cls
        if id(kind) not in seen:  # types may refer to themselves
            seen.add(id(kind))
            kinds += _inside(kind)
    return None


def _never_decoded(cls: Any) -> bool:
    return not any(issubclass(plain, cls) for plain in _DECODED)


def _inside(kind: Any) -> list[Any]:
    import msgspec.inspect

    values = [getattr(kind, name) for name in kind.__struct_fields__]
    ones = [one for value in values for one in (value if isinstance(value, tuple) else (value,))]
    return [one for one in ones if isinstance(one, (msgspec.inspect.Type, msgspec.inspect.Field))]
