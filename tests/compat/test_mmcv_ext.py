from __future__ import annotations

import importlib
import pkgutil

import mmcv.ops
import pytest
import torch
from mmcv.utils import collect_env

from aicore.compat import mmcv_ext
from aicore.errors import AicoreError


def test_every_module_of_mmcvs_ops_imports():
    names = [module.name for module in pkgutil.iter_modules(mmcv.ops.__path__, "mmcv.ops.")]
    assert len(names) > 50
    for name in names:
        importlib.import_module(name)


def test_lacking_op_says_its_name_and_the_cure():
    with pytest.raises(AicoreError) as error:
        mmcv.ops.box_iou_rotated(torch.rand(1, 5), torch.rand(1, 5))
    assert "'box_iou_rotated'" in str(error.value)
    assert "pip install --no-build-isolation" in str(error.value)
    assert "\n" not in str(error.value)


def test_any_op_is_found_but_no_magic_name():
    assert callable(mmcv_ext.some_op_of_the_future)
    assert not hasattr(mmcv_ext, "__wrapped__")


def test_report_on_the_environment():
    assert "aicore.compat" in collect_env()["MMCV Compiler"]


def test_all_names_exist():
    assert all(name in vars(mmcv_ext) for name in mmcv_ext.__all__)
