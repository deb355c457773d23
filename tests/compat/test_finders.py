from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from aicore.compat import MmcvOpsFinder, QuietFinder, _WithoutNoise

REPOSITORY = Path(__file__).parents[2]


def run(code: str) -> str:
    """Runs code in a fresh interpreter with Python's default warnings; returns all it wrote."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_finders_answer_only_their_own():
    assert MmcvOpsFinder().find_spec("mmcv.ops", None) is None
    assert MmcvOpsFinder().find_spec("_ext", None) is None
    assert QuietFinder().find_spec("mmdet.models", None) is None
    assert QuietFinder().find_spec("mmdet.datasets", []) is None  # mmdet without data sets


def test_fallback_has_a_real_spec_and_is_lazy():
    run("""if True:
        import sys, aicore
        spec = sys.meta_path[-1].find_spec("mmcv._ext", None)
        assert spec.origin.endswith("mmcv_ext.py") and spec.has_location, spec
        assert "torch" not in sys.modules

        import importlib.util, pkgutil, warnings
        assert importlib.util.find_spec("mmcv._ext").origin == spec.origin
        assert "mmcv._ext" not in sys.modules
        from mmcv.utils.ext_loader import check_ops_exist
        warnings.simplefilter("ignore")
        assert check_ops_exist()

        import mmcv._ext
        assert mmcv._ext.__spec__.name == mmcv._ext.__name__ == "mmcv._ext"
    """)


def test_compiled_ops_win(tmp_path):
    (tmp_path / "_ext.py").write_text("compiled = True\n")
    run(f"""if True:
        import aicore, mmcv
        mmcv.__path__.append({str(tmp_path)!r})
        import mmcv._ext
        assert mmcv._ext.compiled is True
    """)


@pytest.mark.slow
def test_host_libraries_import_in_silence_and_offline():
    written = run("""if True:
        import aicore, sys

        def report_network(event, arguments):
            if event in ("socket.connect", "socket.getaddrinfo"):
                print(event, arguments)

        sys.addaudithook(report_network)
        import mmdet.datasets, mmdet.models, mmseg.models, mmpretrain.models, albumentations
        import mmdet.apis, mmseg.apis, mmpretrain.apis, mmengine.runner, timm
        import mmdet.utils, mmseg.utils, mmpretrain.utils
        for library in (mmdet, mmseg, mmpretrain):
            library.utils.register_all_modules(init_default_scope=False)
        assert "OneDLDataset" not in mmdet.datasets.__all__  # else there was nothing to silence
    """)
    assert written == ""


def test_only_the_noise_is_dropped():
    stream = io.StringIO()
    quiet = _WithoutNoise(stream)
    print("before", file=quiet)
    print("Could not import OneDL. Skipping OneDL datasets.", file=quiet)
    print(file=quiet)
    print("Could not import torch", file=quiet)
    quiet.flush()
    assert stream.getvalue() == "before\n\nCould not import torch\n"
