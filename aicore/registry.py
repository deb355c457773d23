"""Every registry of aicore, each a child of MMEngine's root registry of the same purpose.

Modules register here and are written with their prefix in a config: ``type='aicore.LoadImage'``.
The modules under ``locations`` are imported when a name is first looked up, so that importing
aicore stays cheap and nothing has to be listed in ``custom_imports``.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mmengine import registry as root
from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry

from aicore.errors import ConfigError, did_you_mean

# Each task's subpackage, with the host library whose scope its configs have, in the order in which
# a name is looked for: what costs least to import comes first.
_TASKS = {
    "aicore.anomaly": "aicore",
    "aicore.classification": "mmpretrain",
    "aicore.segmentation": "mmseg",
    "aicore.detection": "mmdet",
}


class TaskRegistry(Registry):
    """A registry whose names are of several tasks, no more of which are imported than needed.

    A task's subpackage brings its host library along, which takes seconds and hundreds of MB. So
    they are imported one by one, that of the default scope's library first, until one has
    registered the name that is looked up.
    """

    def get(self, key: str) -> type | None:
        """Returns what is registered under a name; see :meth:`mmengine.registry.Registry.get`."""
        scope, name = self.split_scope_key(key)
        if scope in (None, self.scope):
            where: list[Registry] = [self]
            if scope is None and self.parent is not None:
                where.append(self.parent)
            for registry in where:
                registry.import_from_location()
            default = DefaultScope.get_current_instance()
            scope_name = default.scope_name if default else None
            for task in sorted(_TASKS, key=lambda task: _TASKS[task] != scope_name):
                if any(name in registry.module_dict for registry in where):
                    break
                importlib.import_module(task)
        return super().get(key)


def _child(
    name: str, parent: Registry, locations: list[str], kind: type[Registry] = Registry
) -> Registry:
    return kind(name, parent=parent, scope="aicore", locations=locations)


RUNNERS = _child("runner", root.RUNNERS, ["aicore.engine"])
LOOPS = _child("loop", root.LOOPS, ["aicore.engine"])
HOOKS = _child("hook", root.HOOKS, ["aicore.engine"], TaskRegistry)
LOG_PROCESSORS = _child("log_processor", root.LOG_PROCESSORS, ["aicore.engine"])
OPTIM_WRAPPER_CONSTRUCTORS = _child(
    "optimizer wrapper constructor", root.OPTIM_WRAPPER_CONSTRUCTORS, ["aicore.engine"]
)
OPTIM_WRAPPERS = _child("optim_wrapper", root.OPTIM_WRAPPERS, ["aicore.engine"])
PARAM_SCHEDULERS = _child("parameter scheduler", root.PARAM_SCHEDULERS, ["aicore.engine"])
# timm's own optimisers, in a scope of their own: ``type='timm.lamb'``. Nothing is imported before
# the first such name is looked up.
TIMM_OPTIMIZERS = Registry(
    "optimizer",
    parent=root.OPTIMIZERS,
    scope="timm",
    locations=["aicore.engine.optimizers.timm"],
)
DATASETS = _child("dataset", root.DATASETS, ["aicore.datasets"], TaskRegistry)
DATA_SAMPLERS = _child("data sampler", root.DATA_SAMPLERS, ["aicore.datasets"])
TRANSFORMS = _child("transform", root.TRANSFORMS, ["aicore.datasets"], TaskRegistry)
MODELS = _child("model", root.MODELS, ["aicore.backbones", "aicore.losses"], TaskRegistry)
TASK_UTILS = _child("task util", root.TASK_UTILS, ["aicore.evaluation"], TaskRegistry)
METRICS = _child("metric", root.METRICS, ["aicore.evaluation"], TaskRegistry)
# None of our own: where aicore is the default scope, MMEngine warns unless it finds these.
VISUALIZERS = _child("visualizer", root.VISUALIZERS, ["aicore.visualization"])
VISBACKENDS = _child("vis_backend", root.VISBACKENDS, ["aicore.visualization"])
EVALUATOR = _child("evaluator", root.EVALUATOR, ["aicore.evaluation"])

# What differs between tasks, under one small interface: see aicore.task.Task.
TASKS = TaskRegistry("task", scope="aicore")

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
    found = re.match(r"(\S+) is not in the (?:(\S+?)::)?(.+?) registry", message)
    if found is None:
        return None
    name, scope, purpose = found.groups()
    scope = scope or config.get("default_scope", "mmengine")
    places = [where for where, node in _nodes(config) if node.get("type") == name]
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
    nodes = list(_nodes(config))
    own = [(w, n) for w, n in nodes if str(n.get("type")).rpartition(".")[2] == class_name]
    if argument is None and own:
        return f"{config.filename}: {own[0][0]} ({own[0][1]['type']}): {complaint}."
    # Else a dict without a type (a data loader, the training loop), or one whose class hands its
    # arguments on: a parent's, timm's.
    for where, node in [*own, *nodes]:
        if argument not in node or argument == "type":
            continue
        accepted = _accepted_arguments(str(node.get("type", class_name)), class_name)
        takes = f" It takes: {', '.join(accepted)}." if accepted else ""
        return (
            f"{config.filename}: {where}.{argument}: {class_name} takes no argument "
            f"{argument!r}.{did_you_mean(argument, accepted)}{takes}"
        )
    return None


def _nodes(value: Any, where: str = "") -> Iterator[tuple[str, dict]]:
    """Yields every dict below ``value`` with its path in the config."""
    if isinstance(value, Config | dict):
        if where:
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
    """Returns the names of a registered class's own arguments, its parents' included.

    None at all if ``class_name`` is neither that class nor a parent of it.
    """
    prefix, _, name = type_name.rpartition(".")
    for top in _roots():
        for registry in _all_registries(top):
            module = registry.module_dict.get(name)
            if (
                inspect.isclass(module)
                and prefix in ("", registry.scope)
                and class_name in (parent.__name__ for parent in inspect.getmro(module))
            ):
                return _arguments(module)
    return []


def _arguments(module: type) -> list[str]:
    names: list[str] = []
    for parent in inspect.getmro(module):
        if "__init__" not in parent.__dict__:
            continue
        parameters = inspect.signature(parent.__init__).parameters.values()
        names += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if all(p.kind is not p.VAR_KEYWORD for p in parameters):
            break
    return [name for name in dict.fromkeys(names) if name != "self"]
