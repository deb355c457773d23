"""Every registry of aicore, each a child of MMEngine's root registry of the same purpose.

Modules register here and are written with their prefix in a config: ``type='aicore.LoadImage'``.
The modules under ``locations`` are imported when a name is first looked up, so that importing
aicore stays cheap and nothing has to be listed in ``custom_imports``.
"""

from mmengine import registry as root
from mmengine.registry import Registry

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

# What differs between tasks, under one small interface: see aicore.structures.Task.
TASKS = Registry("task", scope="aicore", locations=_TASKS)
