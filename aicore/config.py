"""Reading a config: MMEngine's python files, plus settings that follow from other settings.

A value ``'${expression}'`` is worked out after all ``_base_`` files, the leaf and the
``--cfg-options`` have been merged, from the settings at the top level of the config. So a leaf
that sets ``max_epochs = 30`` moves the schedule with it, and the number of classes is never typed:
``num_classes`` is the length of ``classes``, which the data set tells where the config does not.
The config that comes out holds plain values only; it dumps and reloads exactly.
"""

from __future__ import annotations

import copy
import difflib
import keyword
import re
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict
from simpleeval import EvalWithCompoundTypes, InvalidExpression

from aicore.errors import AicoreError, ConfigError, did_you_mean

_WHOLE = re.compile(r"^\$\{(.+)\}$", re.DOTALL)
_PART = re.compile(r"\$\{([^}]+)\}")
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
# Knobs of the base configs that are whole numbers (image_size also two of them).
_AT_LEAST = {
    "batch_size": 1,
    "image_size": 1,
    "log_interval": 1,
    "max_epochs": 1,
    "num_workers": 0,
    "patience": 1,
    "warmup_epochs": 0,
}
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
    known = set(config)
    options = copy.deepcopy(options or {})  # MMEngine takes _delete_ out of them
    for key in options:
        name = key.split(".")[0]
        if name not in known:
            raise ConfigError(
                f"--cfg-options {key}: {path} has no setting {name!r}."
                f"{did_you_mean(name, known)} Print the settings with tools/misc/print_config.py."
            )
        _refuse_key_below_expression(config, key)
    try:
        config.merge_from_dict(options)
    except (KeyError, IndexError, TypeError, AssertionError) as error:
        raise ConfigError(
            f"--cfg-options {_join(options)} does not fit {path}: {str(error).rstrip('.')}. "
            "Print the settings with tools/misc/print_config.py."
        ) from error
    _refuse_misspelt_settings(config)
    if config.get("classes") is None and "classes" in config:
        config.classes = tuple(classes) if classes else None
    _check_numbers(config)  # before an expression stumbles over a wrong one
    _Resolver(config).resolve()
    _check_numbers(config)
    return config


def without_pretrained(model: Any) -> Any:
    """Returns a copy of a model's config that asks for no pretrained weights.

    For testing and inference: the checkpoint replaces them, so their file need not be at hand.
    """
    if isinstance(model, dict):
        copy = {key: without_pretrained(value) for key, value in model.items()}
        if copy.get("pretrained"):
            copy["pretrained"] = False
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
        raise ConfigError(
            f"config file {str(path)!r} cannot be read: {type(reason).__name__}: {reason}"
        ) from error


def _join(options: dict[str, Any]) -> str:
    return " ".join(f"{key}={value}" for key, value in options.items())


def _refuse_key_below_expression(config: Config, key: str) -> None:
    """Raises if a dotted key leads into a value that is still an expression."""
    node: Any = config
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if isinstance(node, str):
            raise ConfigError(
                f"--cfg-options {key}: {'.'.join(parts[:depth])} is {node!r} in {config.filename}. "
                "Override the setting that it names."
            )
        if isinstance(node, list | tuple) and part.isdecimal() and int(part) < len(node):
            node = node[int(part)]
        elif isinstance(node, dict | Config) and part in node:
            node = node[part]
        else:
            return


def _references(value: Any) -> set[str]:
    """Returns all names that the expressions below ``value`` use."""
    if isinstance(value, dict):
        return set().union(*map(_references, value.values()))
    if isinstance(value, list | tuple):
        return set().union(*map(_references, value))
    if isinstance(value, str):
        return {
            name
            for expression in _PART.findall(value)
            for name in re.findall(r"[A-Za-z_]\w*", expression)
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


def _check_numbers(config: Config) -> None:
    """Raises for a knob that is no number or out of its range, before anything stumbles over it."""
    for name, least in _AT_LEAST.items():
        value = config.get(name)
        if isinstance(value, str) and _PART.search(value):
            continue  # to be worked out
        values = value if isinstance(value, list | tuple) else [value]
        if value is not None and not all(type(v) is int and v >= least for v in values):
            raise ConfigError(
                f"{config.filename}: {name} = {value!r}: expected a whole number of at least "
                f"{least}."
            )
    rate = config.get("learning_rate")
    if isinstance(rate, str) and _PART.search(rate):
        return
    if rate is not None and not (isinstance(rate, int | float) and rate > 0):
        raise ConfigError(
            f"{config.filename}: learning_rate = {rate!r}: expected a number above 0."
        )


class _Resolver:
    """Replaces every ``'${...}'`` below a config by its value."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.pending: list[str] = []
        self.evaluator = EvalWithCompoundTypes(names=self._name, functions=dict(_FUNCTIONS))

    def resolve(self) -> None:
        for key in list(self.config):
            self.config[key] = self._value(self.config[key], key)
        if "classes" in self.config and "num_classes" not in self.config:
            self._classes()

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
        return _PART.sub(lambda part: str(self._evaluate(part[1], where)), value)

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
            return len(self._classes())
        if name == "classes":
            return self._classes()
        if name not in self.config:
            raise ConfigError(
                f"{self.config.filename}: an expression names the setting {name!r}, which the "
                f"config does not have.{did_you_mean(name, self.config)}"
            )
        if name in self.pending:
            chain = " -> ".join([*self.pending, name])
            raise ConfigError(f"{self.config.filename}: settings refer to each other: {chain}")
        self.pending.append(name)
        value = self._value(self.config[name], name)
        self.pending.pop()
        return value

    def _classes(self) -> tuple[str, ...]:
        if self.config.get("classes") is None:
            self.config.classes = self._classes_of_dataset()
        classes = self._value(self.config.classes, "classes")
        if not isinstance(classes, list | tuple):
            raise ConfigError(
                f"{self.config.filename}: classes = {classes!r} is not a list of names. Write "
                "classes = ('good', 'scratch'), or --cfg-options classes=\"[good,scratch]\"."
            )
        self.config.classes = tuple(map(str, classes))
        return self.config.classes

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
        open_dataset = self._value(open_dataset, "train_dataloader.dataset")
        init_default_scope(self.config.get("default_scope", "aicore"))
        with explain_build_errors(self.config):
            built = DATASETS.build(ConfigDict(open_dataset, lazy_init=True))
        return tuple(built.metainfo["classes"])
