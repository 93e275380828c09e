"""JSON of which every part is checked before it is used. Stage: io. Must not know: models, zips.

Stricter than JSON itself: no key twice, no NaN, whole numbers of 64 bits, short strings, little nesting, and
in a list items of one kind (or null): what takes a list of numbers gets no list to multiply by a number.
"""

from __future__ import annotations

import json
from typing import Any

from ..errors import FileFormatError

#: bytes; a layer takes about 600
DOCUMENT_LIMIT = 8 * 2**20
#: levels of objects and lists; a layer's description uses 7
DEPTH_LIMIT = 32
#: characters
STRING_LIMIT = 4096

_KINDS = {
    dict: "an object",
    list: "a list",
    str: "a string",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def damaged(where: str, expected: str, received: Any, cure: str = "use another copy of the file") -> FileFormatError:
    """The error for a file that is not what it should be."""
    return FileFormatError(f"{where}: expected {expected}, received {clip(received)}; {cure}")


def clip(text: Any) -> str:
    """A text as it fits into a message: of a long one its beginning and its end, where lists of names say what came."""
    text = str(text)
    return text if len(text) <= 400 else f"{text[:240]} ... {text[-160:]}"


def parse(data: bytes, where: str) -> Any:
    """A JSON document by the rules above. Raises FileFormatError."""
    if len(data) > DOCUMENT_LIMIT:
        raise damaged(where, f"at most {DOCUMENT_LIMIT} bytes", len(data))
    try:
        document = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_object,
            parse_int=_whole,
            parse_float=_real,
            parse_constant=_real,
        )
        _check(document, 0)
    except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise damaged(where, "well-formed JSON", error) from error
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key twice in one object")
    return result


def _whole(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= int(text) < 2**63:
        raise ValueError(f"a whole number of more than 64 bits, {clip(text)}")
    return int(text)


def _real(text: str) -> float:
    value = float(text)
    if not abs(value) < float("inf"):
        raise ValueError(f"{clip(text)}, which is not a finite number")
    return value


def _check(value: Any, depth: int) -> None:
    if depth > DEPTH_LIMIT:
        raise ValueError(f"objects and lists nested more than {DEPTH_LIMIT} deep")
    if isinstance(value, str) and len(value) > STRING_LIMIT:
        raise ValueError(f"a string of {len(value)} characters")
    if isinstance(value, list) and len({_kind(item) for item in value if item is not None}) > 1:
        raise ValueError("a list with items of different kinds")
    if isinstance(value, dict):
        for key in value:
            _check(key, depth + 1)
        if "class" in value:
            take(value, "description", **{"class": str, "config": dict})
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check(item, depth + 1)


def _kind(value: Any) -> type:
    return float if type(value) is int else type(value)


def take(value: Any, where: str, /, **kinds: Any) -> list[Any]:
    """The values of an object that has exactly these keys, in the order of the arguments.

    Args:
        value: part of a parsed document.
        where: its place, for messages.
        kinds: for each key the type of its value, or a tuple of types.
    Raises:
        FileFormatError: it is no object, lacks a key, has another one, or a value is of another type.
    """
    if type(value) is not dict or value.keys() != kinds.keys():
        received = "the keys " + ", ".join(sorted(value)) if type(value) is dict else clip(repr(value))
        raise damaged(where, f"an object with the keys {', '.join(kinds)}", received)
    for key, kind in kinds.items():
        wanted = kind if isinstance(kind, tuple) else (kind,)
        if type(value[key]) not in wanted:
            raise damaged(f"{where}: {key}", " or ".join(_KINDS[k] for k in wanted), repr(value[key]))
    return [value[key] for key in kinds]
