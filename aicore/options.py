"""Settings that a command line overrides: ``key=text``, read by the type the setting has.

``train=2024`` stays a text where the config says ``train = "train"``, and becomes a number where it
says a number. Values that python code gives are taken as they are.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

from mmengine.config import Config, DictAction

from aicore.errors import ConfigError, did_you_mean

# Texts, wherever the config says None, False or True in their place.
TEXTS = (
    "data_root",
    "train",
    "val",
    "images",
    "annotations",
    "masks",
    "roi",
    "type_from",
    "pretrained",
    "load_from",
    "resume",
    "work_dir",
)
_NAME = re.compile(r"\$\{(\w+)\}")  # of another setting, alone
_EXPRESSION = re.compile(r"\$\{[^$]+\}")  # whose value may be of any type
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"", re.DOTALL)
_PRINT = "Print the settings with tools/misc/print_config.py."


class OptionText(str):
    """The text behind ``key=`` as it was typed, to be read by the type of its setting."""

    __slots__ = ()


def override(config: Config, options: dict[str, Any]) -> None:
    """Puts options into a config whose ``'${...}'`` are not evaluated yet.

    Args:
        config: Changed in place.
        options: Values by dotted keys.

    Raises:
        ConfigError: A key names no setting, or its value does not fit.
    """
    options = copy.deepcopy(options)  # MMEngine takes _delete_ out of them
    for key, value in options.items():
        name = key.split(".")[0]
        if name not in config:
            raise ConfigError(
                f"--cfg-options {key}: {config.filename} has no setting {name!r}."
                f"{did_you_mean(name, config)} {_PRINT}"
            )
        _refuse_key_below_expression(config, key)
        if isinstance(value, OptionText):
            options[key] = _read(config, key, str(value))
    try:
        config.merge_from_dict(options)
    except (KeyError, IndexError, TypeError, AssertionError) as error:
        given = " ".join(f"{key}={value}" for key, value in options.items())
        raise ConfigError(
            f"--cfg-options {given} does not fit {config.filename}: {str(error).rstrip('.')}. "
            f"{_PRINT}"
        ) from error


def lookup(config: Config, key: str) -> Any:
    """Returns what a dotted key holds; None where there is nothing."""
    path, value = "", None
    for path, value in _walk(config, key):  # noqa: B007
        pass
    return value if path == key else None


def parse(text: str, scalar: Callable[[str], Any] = DictAction._parse_int_float_bool) -> Any:
    """Reads a value: ``3``, ``a``, ``a,b``, ``[a,b]``, ``(1,2)``, lists within lists.

    Blanks within a value stay, those around the commas do not count. What is in quotes is a text.

    Args:
        text: What stands behind ``key=``.
        scalar: Reads what is neither a list nor in quotes.

    Raises:
        ValueError: Brackets or quotes do not match.
    """
    quoted = _QUOTED.fullmatch(text.strip())
    if quoted:
        return quoted[quoted.lastindex]
    parts = _split(text)
    if len(parts) > 1:
        return [parse(part, scalar) for part in parts if part]
    if not text.strip().startswith(("[", "(")):
        return scalar(text)
    inner = [parse(part, scalar) for part in _split(text.strip()[1:-1]) if part]
    return tuple(inner) if text.strip()[0] == "(" else inner


def _split(text: str) -> list[str]:
    """Splits a text at the commas that stand in no brackets and quotes."""
    parts, open_brackets, quote, start = [], [], "", 0
    for index, sign in enumerate(text):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "'\"" and text[start:index].strip(" [(") == "":  # not that of a word: it's
            quote = sign
        elif sign in "[(":
            open_brackets.append(sign)
        elif sign in "])":
            if not open_brackets or open_brackets.pop() + sign not in ("[]", "()"):
                raise ValueError("brackets do not match")
        elif sign == "," and not open_brackets:
            parts.append(text[start:index].strip())
            start = index + 1
    if open_brackets or quote:
        raise ValueError("brackets or quotes do not match")
    return [*parts, text[start:].strip()]


def _read(config: Config, key: str, text: str) -> Any:
    """Reads an option's text by the type that its setting has in the config."""
    if text.startswith("${"):  # an expression
        return text
    name, present = key, lookup(config, key)
    seen = {key}
    while isinstance(present, str) and (other := _NAME.fullmatch(present)):
        if other[1] in seen:
            break
        name, present = other[1], lookup(config, other[1])
        seen.add(name)
    is_text = isinstance(present, str) and not _EXPRESSION.fullmatch(present)
    # Several folders, say; a comma without brackets belongs to a name.
    is_list = _is_bracketed(text)
    if (name in TEXTS or is_text) and not is_list:
        quoted = _QUOTED.fullmatch(text)
        return quoted[quoted.lastindex] if quoted else _text(text)
    is_names = name in TEXTS or name == "classes" or is_text
    is_names |= isinstance(present, list | tuple) and {type(item) for item in present} == {str}
    quoted = _QUOTED.fullmatch(text.strip())
    if quoted and not (name in TEXTS or is_text):  # quotes that the shell has left
        inner = quoted[quoted.lastindex]
        if _is_bracketed(inner) or type(present) in (int, float):
            text = inner
    try:
        if is_names:
            return None if text == "None" else parse(text, str)
        value = parse(text)
    except ValueError as error:
        raise ConfigError(
            f"--cfg-options {key}={text}: {error}. Write {key}=value, {key}=a,b or {key}=[a,b]; "
            "quotes make a text of anything."
        ) from error
    if isinstance(value, str) and type(present) in (int, float):
        raise ConfigError(
            f"--cfg-options {key}={text}: expected a number; {config.filename} has "
            f"{key} = {present!r}."
        )
    return value


def _is_bracketed(text: str) -> bool:
    return (text[:1], text[-1:]) in (("[", "]"), ("(", ")"))


def _text(text: str) -> str | bool | None:
    """Returns a text as it is, unless it says that there is none: ``None``, ``false``."""
    value = DictAction._parse_int_float_bool(text)
    return value if value is None or isinstance(value, bool) else text


def _walk(config: Config, key: str) -> Iterator[tuple[str, Any]]:
    """Yields the value at each part of a dotted key, with the key so far, while there is one."""
    node: Any = config
    path: list[str] = []
    for part in key.split("."):
        if isinstance(node, list | tuple) and part.isdecimal() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, dict | Config) and part in node:
            node = node[part]
        else:
            return
        path.append(part)
        yield ".".join(path), node


def _refuse_key_below_expression(config: Config, key: str) -> None:
    """Raises if a dotted key leads into a value that is still an expression."""
    for path, value in _walk(config, key):
        if isinstance(value, str) and path != key:
            raise ConfigError(
                f"--cfg-options {key}: {path} is {value!r} in {config.filename}. "
                "Override the setting that it names."
            )
