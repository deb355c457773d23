from __future__ import annotations

from mmengine.config import Config

from aicore.config import load_config

TOOL = "tools/misc/print_config.py"


def test_prints_nothing_but_the_config_which_reloads_equal(run_tool, leaf_config):
    done = run_tool(TOOL, leaf_config, "--cfg-options", "max_epochs=7")

    assert done.returncode == 0
    assert done.stderr == ""
    printed = Config.fromstring(done.stdout, ".py")
    assert printed.to_dict() == load_config(leaf_config, {"max_epochs": 7}).to_dict()
    assert "${" not in done.stdout
    # Inherited, overridden, and worked out from classes that stand in no file.
    assert printed.train_cfg.max_epochs == 7
    assert printed.train_dataloader.batch_size == 8
    assert printed.model.num_classes == 3
    assert printed.classes == ("bright", "dark", "striped")


def test_awkward_values_survive(call_tool, tmp_path):
    values = {
        "classes": ('it\'s "good"', "划痕", "back\\slash"),
        "one": ("alone",),
        "nested": [(1, 2.5), [None, True], {"key with blank": 1e-05, "7": "line\nbreak"}],
        "empty": {"list": [], "tuple": (), "dict": {}},
    }
    file = tmp_path / "awkward.py"
    file.write_text("".join(f"{k} = {v!r}\n" for k, v in values.items()), encoding="utf-8")

    done = call_tool(TOOL, file)

    assert Config.fromstring(done.stdout, ".py").to_dict() == values


def test_unknown_option_ends_with_one_sentence(call_tool, leaf_config):
    done = call_tool(TOOL, leaf_config, "--cfg-options", "max_epoch=7")

    assert done.returncode == 1
    assert done.stdout == ""
    assert "'max_epochs'" in done.stderr
    assert done.stderr.count("\n") == 1
