"""Every registry of aicore, each a child of MMEngine's root registry of the same purpose.

Modules register here and are written with their prefix in a config: ``type='aicore.LoadImage'``.
The modules under ``locations`` are imported when a name is first looked up, so that importing
aicore stays cheap and nothing has to be listed in ``custom_imports``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine import registry as root
from mmengine.config import Config
from mmengine.registry import Registry

from aicore.errors import ConfigError, did_you_mean

_TASKS = ["aicore.classification"]


def _child(name: str, parent: Registry, locations: list[str]) -> Registry:
    return Registry(name, parent=parent, scope="aicore", locations=locations)


RUNNERS = _child("runner", root.RUNNERS, ["aicore.engine"])
LOOPS = _child("loop", root.LOOPS, ["aicore.engine"])
HOOKS = _child("hook", root.HOOKS, ["aicore.engine"])
LOG_PROCESSORS = _child("log_processor", root.LOG_PROCESSORS, ["aicore.engine"])
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    "optimizer wrapper constructor", root.OPTIM_WRAPPER_CONSTRUCTORS, ["aicore.engine"]
)
DATASETS = _child("dataset", root.DATASETS, ["aicore.datasets", *_TASKS])
TRANSFORMS = _child("transform", root.TRANSFORMS, ["aicore.datasets", *_TASKS])
MODELS = _child("model", root.MODELS, ["aicore.backbones", *_TASKS])
METRICS = _child("metric", root.METRICS, ["aicore.evaluation", *_TASKS])
EVALUATOR = _child("evaluator", root.EVALUATOR, ["aicore.evaluation"])

# What differs between tasks, under one small interface: see aicore.task.Task.
TASKS = Registry("task", scope="aicore", locations=_TASKS)

_OPTIMIZERS = f"{root.OPTIMIZERS.scope}::{root.OPTIMIZERS.name}"


@contextmanager
def explain_build_errors(config: Config) -> Iterator[None]:
    """Turns MMEngine's errors about a name or an argument in a config into one sentence.

    The sentence holds the config path of the offending key, what was searched, and the nearest
    names. Errors that do not come from ``config`` pass through untouched.
    """
    try:
        yield
    except (KeyError, TypeError) as error:
        message = str(error.args[0]) if error.args else ""
        if message == "None is not a callable object":  # an unknown optimiser is looked up so
            message = f"{config.optim_wrapper.optimizer.type} is not in the {_OPTIMIZERS} registry"
        sentence = _explain_unknown_type(config, message) or _explain_argument(config, message)
        if sentence is None:
            raise
        raise ConfigError(sentence) from error


def _explain_unknown_type(config: Config, message: str) -> str | None:
    found = re.match(r"(\S+) is not in the (\S+?)::(.+?) registry", message)
    if found is None:
        return None
    name, scope, purpose = found.groups()
    places = [where for where, node in _nodes(config) if node["type"] == name]
    # Not _nodes' first alone: the same pipeline often stands in several data sets.
    where = f"{places[0]}.type = {name!r}" if places else f"type {name!r}"
    return (
        f"{config.filename}: {where} is not registered. Searched: {purpose} registry of {scope!r} "
        f"and its parents.{did_you_mean(name, registered_names(purpose, scope))} "
        "If it is a module of your own, import it: custom_imports = dict(imports=['your.module'])."
    )


def _explain_argument(config: Config, message: str) -> str | None:
    found = re.search(
        r"(\w+)(?:\.__init__)?\(\) (got an unexpected keyword argument '(\w+)'|missing .*)", message
    )
    if found is None:
        return None
    class_name, complaint, argument = found.groups()
    for where, node in _nodes(config):
        if str(node["type"]).rpartition(".")[2] != class_name:
            continue
        if argument is None:
            return f"{config.filename}: {where} ({node['type']}): {complaint}."
        if argument in node:
            accepted = _accepted_arguments(node["type"], class_name)
            return (
                f"{config.filename}: {where}.{argument}: {node['type']} takes no argument "
                f"{argument!r}.{did_you_mean(argument, accepted)} It takes: {', '.join(accepted)}."
            )
    return None


def _nodes(value: Any, where: str = "") -> Iterator[tuple[str, dict]]:
    """Yields every dict below ``value`` that has a ``type``, with its path in the config."""
    if isinstance(value, Config | dict):
        if "type" in value:
            yield where, value
        for key, item in value.items():
            yield from _nodes(item, f"{where}.{key}" if where else key)
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _nodes(item, f"{where}[{index}]")


def _all_registries(top: Registry) -> Iterator[Registry]:
    yield top
    for child in top.children.values():
        yield from _all_registries(child)


def _roots() -> list[Registry]:
    return [value for value in vars(root).values() if isinstance(value, Registry)]


def registered_names(purpose: str, scope: str) -> list[str]:
    """Returns all names of one purpose as a config in ``scope`` writes them.

    Names of ``scope`` and of MMEngine's root stand bare, others with their prefix.
    """
    names = []
    for top in [*_roots(), TASKS]:
        if top.name != purpose:
            continue
        for registry in _all_registries(top):
            bare = registry.scope in (scope, "mmengine")
            names += [name if bare else f"{registry.scope}.{name}" for name in registry.module_dict]
    return sorted(names)


def _accepted_arguments(type_name: str, class_name: str) -> list[str]:
    """Returns the names of a registered class's own arguments, its parents' included."""
    for top in _roots():
        for registry in _all_registries(top):
            module = registry.module_dict.get(class_name)
            if module is not None and (
                "." not in type_name or type_name.startswith(f"{registry.scope}.")
            ):
                return _arguments(module)
    return []


def _arguments(module: Any) -> list[str]:
    classes = inspect.getmro(module) if inspect.isclass(module) else (module,)
    names: list[str] = []
    for item in classes:
        call = item.__dict__.get("__init__") if inspect.isclass(item) else item
        if call is None:
            continue
        parameters = inspect.signature(call).parameters.values()
        names += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
    return [name for name in dict.fromkeys(names) if name != "self"]
