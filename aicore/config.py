"""Reading a config: MMEngine's python files, plus settings that follow from other settings.

A value ``'${expression}'`` is worked out after all ``_base_`` files, the leaf and the
``--cfg-options`` have been merged, from the settings at the top level of the config. So a leaf
that sets ``max_epochs = 30`` moves the schedule with it, and the number of classes is never typed:
``num_classes`` is the length of ``classes``, which the data set tells where the config does not.
The config that comes out holds plain values only; it dumps and reloads exactly.

``'$${...}'`` is the text ``'${...}'``; names that come from data or a checkpoint are never
evaluated.
"""

from __future__ import annotations

import copy
import difflib
import keyword
import math
import re
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from simpleeval import EvalWithCompoundTypes, InvalidExpression

from aicore.errors import AicoreError, ConfigError, did_you_mean
from aicore.options import TEXTS, lookup, override

_REPOSITORY = Path(__file__).parents[1]
_MISSING_BASE = re.compile(r'file "(.+)" does not exist', re.DOTALL)  # as MMEngine says it
_WHOLE = re.compile(r"^\$\{(.+)\}$", re.DOTALL)
_PART = re.compile(r"\$?\$\{([^}]+)\}")  # with a second $ the text itself
# What MMEngine and tools/test.py read as it is; dicts beside them.
_LISTS = ("custom_hooks", "param_scheduler", "tta_pipeline")
_FAILURES = (
    InvalidExpression,
    SyntaxError,
    TypeError,
    ValueError,
    LookupError,
    ArithmeticError,
)
# Knobs of the base configs that are whole numbers (image_size and topk also several).
_AT_LEAST = {
    "batch_size": 1,
    "image_size": 1,
    "log_interval": 1,
    "max_epochs": 1,
    "num_workers": 0,
    "patience": 1,
    "randomness.seed": 0,
    "seed": 0,
    "topk": 1,
    "warmup_epochs": 0,
}
_AT_MOST = {"randomness.seed": 2**32 - 1, "seed": 2**32 - 1}
_FUNCTIONS = {
    "len": len,
    "min": min,
    "max": max,
    "int": int,
    "round": round,
    "sum": sum,
    # (height, width) of a knob that is one number for both, or two.
    "pair": lambda size: tuple(size) if isinstance(size, list | tuple) else (size, size),
}


class PlainConfig(Config):
    """A config of plain values; MMEngine's own takes half a second for its text, each time."""

    @property
    def pretty_text(self) -> str:
        """The config as a python file that gives the same config again."""
        lines = [f"{key} = {_as_text(value, 0)}\n" for key, value in self.to_dict().items()]
        return "".join(lines)


def _as_text(value: Any, indent: int) -> str:
    """Returns the expression of a value, broken into lines of about 100 characters."""
    if isinstance(value, dict):
        named = all(isinstance(key, str) and key.isidentifier() for key in value)
        named = named and not any(map(keyword.iskeyword, value))
        begin, end = ("dict(", ")") if named else ("{", "}")
        parts = [
            (f"{key}=" if named else f"{key!r}: ") + _as_text(item, indent + 4)
            for key, item in value.items()
        ]
    elif isinstance(value, list | tuple):
        begin, end = "[]" if isinstance(value, list) else "()"
        parts = [_as_text(item, indent + 4) for item in value]
    elif isinstance(value, str):
        # What reads the file again takes $${x} for the text ${x}, and {{x}} for a name of its own.
        return repr(_PART.sub(lambda part: "$" + part[0], value)).replace("{{", "{\\x7b")
    else:
        return repr(value)
    comma = "," if begin == "(" and len(parts) == 1 else ""
    line = begin + ", ".join(parts) + comma + end
    if len(line) + indent <= 96 and "\n" not in line:
        return line
    blank = "\n" + " " * (indent + 4)
    return begin + "".join(f"{blank}{part}," for part in parts) + "\n" + " " * indent + end


def load_config(
    path: str | Path,
    options: dict[str, Any] | None = None,
    classes: tuple[str, ...] | None = None,
) -> Config:
    """Reads a config file and works out its ``'${...}'`` expressions.

    Args:
        path: The config file (.py).
        options: Overrides with dotted keys, as ``--cfg-options`` gives them.
        classes: Class names for a config that leaves ``classes`` open; without them the data set
            of ``train_dataloader`` is asked.

    Returns:
        The config, with plain values only.

    Raises:
        ConfigError: The file is missing or does not run; an option names an unknown setting; an
            expression names an unknown setting or does not compute.
    """
    config = _read(Path(path))
    override(config, options or {})
    _refuse_misspelt_settings(config)
    _check_values(config)  # before an expression stumbles over a wrong one
    _Resolver(config, classes).resolve()
    _check_values(config)
    return config


def without_pretrained(model: Any) -> Any:
    """Returns a copy of a model's config that asks for no pretrained weights.

    For testing and inference: the checkpoint replaces them, so their file need not be at hand.
    """
    if isinstance(model, dict):
        copy = {key: without_pretrained(value) for key, value in model.items()}
        if copy.get("pretrained"):
            copy["pretrained"] = False
        if isinstance(copy.get("init_cfg"), dict) and copy["init_cfg"].get("type") == "Pretrained":
            del copy["init_cfg"]
        return type(model)(copy)
    if isinstance(model, list | tuple):
        return type(model)(map(without_pretrained, model))
    return model


def _read(path: Path) -> Config:
    if not path.is_file():
        near = [p.as_posix() for p in path.parent.glob("*.py")] if path.parent.is_dir() else []
        raise ConfigError(
            f"config file {str(path)!r} does not exist.{did_you_mean(path.as_posix(), near)}"
        )
    if path.suffix != ".py":
        raise ConfigError(f"config file {str(path)!r} is not a .py file.")
    try:
        config = Config.fromfile(path, lazy_import=False)
        return PlainConfig(config.to_dict(), config.text, config.filename, config.env_variables)
    except AicoreError:
        raise
    except Exception as error:  # a config is a program of the user's: it may fail in any way
        # Where custom_imports fail, MMEngine's own message lists all of sys.path.
        reason = error.__cause__ or error
        missing = _MISSING_BASE.fullmatch(str(reason))
        raise ConfigError(
            f"config file {str(path)!r} cannot be read: "
            + (_explain_base(missing[1]) if missing else f"{type(reason).__name__}: {reason}")
        ) from error


def _explain_base(missing: str) -> str:
    """Returns what to write where a ``_base_`` is not found beside the file that names it."""
    parts = Path(missing).parts
    tails = (_REPOSITORY.joinpath(*parts[start:]) for start in range(1, len(parts)))
    found = next((path for path in tails if path.is_file()), None)
    return (
        f"its _base_ {missing!r} does not exist. A relative _base_ begins at the folder of the "
        f"file that names it; write the whole path"
        + (f": _base_ = {found.as_posix()!r}." if found else ".")
    )


def _references(value: Any) -> set[str]:
    """Returns all names that the expressions below ``value`` use."""
    if isinstance(value, dict):
        return set().union(*map(_references, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(_references, value))
    if isinstance(value, str):
        return {
            name
            for part in _PART.finditer(value)
            if not part[0].startswith("$$")
            for name in re.findall(r"[A-Za-z_]\w*", part[1])
        }
    return set()


def _refuse_misspelt_settings(config: Config) -> None:
    """Raises for a top-level value that nothing uses and that looks like one that is used."""
    used = _references(dict(config)) & set(config)
    for name, value in config.items():
        if name in used or name in _LISTS or isinstance(value, dict):
            continue
        near = difflib.get_close_matches(name, used, n=1, cutoff=0.85)
        if near:
            raise ConfigError(
                f"{config.filename}: nothing uses the setting {name!r}. "
                f"Did you mean {near[0]!r}? If it is a helper variable, give it another name."
            )


def _check_values(config: Config) -> None:
    """Raises for a knob of a wrong type or out of its range, before anything stumbles over it."""
    for name, least in _AT_LEAST.items():
        value, most = lookup(config, name), _AT_MOST.get(name, math.inf)
        if _is_open(value):
            continue
        values = value if isinstance(value, list | tuple) else [value]
        if value is not None and not all(type(v) is int and least <= v <= most for v in values):
            limit = f"from {least} to {most}" if name in _AT_MOST else f"of at least {least}"
            raise ConfigError(
                f"{config.filename}: {name} = {value!r}: expected a whole number {limit}."
            )
    rate = config.get("learning_rate")
    if rate is not None and not _is_open(rate) and not (isinstance(rate, int | float) and rate > 0):
        raise ConfigError(
            f"{config.filename}: learning_rate = {rate!r}: expected a number above 0."
        )
    for name in TEXTS:
        if type(config.get(name)) in (int, float):
            raise ConfigError(
                f"{config.filename}: {name} = {config[name]!r}: expected a text, "
                f"{name} = '{config[name]}'."
            )
    topk, classes = config.get("topk"), config.get("classes")
    largest = max(topk) if isinstance(topk, list | tuple) and topk else topk
    if type(largest) is int and isinstance(classes, list | tuple) and largest > len(classes):
        raise ConfigError(
            f"{config.filename}: topk = {topk!r}: there are {len(classes)} classes "
            f"({', '.join(map(str, classes))}), expected no larger number."
        )


def _is_open(value: Any) -> bool:
    """Tells whether a value is still to be evaluated."""
    return isinstance(value, str) and bool(_PART.search(value))


class _Resolver:
    """Replaces every ``'${...}'`` below a config by its value, each text once.

    Args:
        config: Changed in place.
        classes: Class names for a config that leaves them open.
    """

    def __init__(self, config: Config, classes: tuple[str, ...] | None) -> None:
        self.config = config
        self.known_classes = classes
        self.pending: list[str] = []
        self.resolved: set[str] = set()
        self.evaluator = EvalWithCompoundTypes(names=self._name, functions=dict(_FUNCTIONS))

    def resolve(self) -> None:
        for name in list(self.config):
            if name != "classes":
                self._setting(name)
        if "classes" in self.config and (
            "num_classes" not in self.config or self.known_classes or self.config.classes
        ):
            self._setting("classes")

    def _setting(self, name: str) -> Any:
        """Returns a setting's value. What came out of a text is not looked at a second time."""
        if name in self.pending:
            chain = " -> ".join([*self.pending, name])
            raise ConfigError(f"{self.config.filename}: settings refer to each other: {chain}")
        if name not in self.resolved:
            self.pending.append(name)
            is_classes = name == "classes"
            value = self._classes() if is_classes else self._value(self.config[name], name)
            self.config[name] = value
            self.pending.pop()
            self.resolved.add(name)
        return self.config[name]

    def _value(self, value: Any, where: str) -> Any:
        if isinstance(value, dict):
            for key in list(value):
                value[key] = self._value(value[key], f"{where}.{key}")
            return value
        if isinstance(value, list | tuple):
            return type(value)(self._value(v, f"{where}[{i}]") for i, v in enumerate(value))
        if not isinstance(value, str):
            return value
        whole = _WHOLE.match(value)
        if whole and "${" not in whole[1]:
            # A copy: who changes one data set's pipeline must not change another's.
            return copy.deepcopy(self._evaluate(whole[1], where))
        return _PART.sub(lambda part: self._text_of(part, where), value)

    def _text_of(self, part: re.Match[str], where: str) -> str:
        is_text = part[0].startswith("$$")
        return part[0][1:] if is_text else str(self._evaluate(part[1], where))

    def _evaluate(self, expression: str, where: str) -> Any:
        try:
            return self.evaluator.eval(expression)
        except _FAILURES as error:
            raise ConfigError(
                f"{self.config.filename}: {where} = '${{{expression}}}' cannot be worked out: "
                f"{error}"
            ) from error

    def _name(self, node: Any) -> Any:
        name = node.id
        if name == "num_classes" and name not in self.config:
            return len(self._setting("classes"))
        if name != "classes" and name not in self.config:
            raise ConfigError(
                f"{self.config.filename}: an expression names the setting {name!r}, which the "
                f"config does not have.{did_you_mean(name, self.config)}"
            )
        return self._setting(name)

    def _classes(self) -> tuple[str, ...]:
        classes = self.config.get("classes")
        if classes is None:  # names of data: not evaluated
            return tuple(self.known_classes or self._classes_of_dataset())
        classes = self._value(classes, "classes")
        if not isinstance(classes, list | tuple):
            raise ConfigError(
                f"{self.config.filename}: classes = {classes!r} is not a list of names. Write "
                "classes = ('good', 'scratch'), or --cfg-options classes=\"[good,scratch]\"."
            )
        return tuple(map(str, classes))

    def _classes_of_dataset(self) -> tuple[str, ...]:
        """Asks the training data set for its classes, without reading its annotations."""
        from mmengine.registry import init_default_scope

        from aicore.registry import DATASETS, explain_build_errors

        dataset = self.config.get("train_dataloader", {}).get("dataset")
        if dataset is None:
            raise ConfigError(
                f"{self.config.filename}: 'classes' is not set and there is no "
                "train_dataloader.dataset to take the class names from."
            )
        while "dataset" in dataset:  # wrappers such as RepeatDataset
            dataset = dataset["dataset"]
        open_dataset = {k: v for k, v in dataset.items() if k not in ("metainfo", "pipeline")}
        open_dataset = self._value(copy.deepcopy(open_dataset), "train_dataloader.dataset")
        init_default_scope(self.config.get("default_scope", "aicore"))
        with explain_build_errors(self.config):
            built = DATASETS.build(ConfigDict(open_dataset, lazy_init=True))
        return tuple(built.metainfo["classes"])
