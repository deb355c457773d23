"""A user's mistake ends with one sentence and exit code 1 or 2, without a stack trace."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
TRAIN, TEST, DEMO = "tools/train.py", "tools/test.py", "tools/demo.py"
TOOLS = sorted(
    file.relative_to(REPOSITORY)
    for file in REPOSITORY.glob("tools/**/*.py")
    if file.name != "torchrun.py"  # no command of its own: dist_run.sh calls it
)


@pytest.fixture
def config(leaf_config, tmp_path):
    """A leaf of one's own, with a tiny network."""
    file = tmp_path / f"{tmp_path.name}.py"
    file.write_text(
        f"_base_ = {str(leaf_config)!r}\nmodel_name = 'test_resnet.r160_in1k'\n", encoding="utf-8"
    )
    return file


@pytest.fixture
def mistake(call_tool, tmp_path, monkeypatch):
    """A function that runs a tool and returns the one sentence it ends with."""

    def sentence(code: int, tool: str, *arguments: str | Path) -> str:
        monkeypatch.chdir(tmp_path)
        done = call_tool(tool, *arguments)
        assert done.returncode == code
        assert "Traceback" not in done.stdout + done.stderr
        lines = done.stderr.splitlines()
        if code == 2:  # argparse's: the usage stands before it
            assert lines[0].startswith("usage: ")
            return lines[-1]
        (line,) = lines
        assert line.startswith("error: ")
        return line

    return sentence


# ---- wrong paths ----


@pytest.mark.parametrize("tool", [TRAIN, TEST, DEMO])
def test_a_config_that_is_not_there(mistake, trained, tool):
    others = [] if tool == TRAIN else [trained.checkpoint]
    others += [str(trained.data_root)] if tool == DEMO else []

    line = mistake(1, tool, REPOSITORY / "configs/classification/resnet19.py", *others)

    assert "resnet19.py' does not exist. Did you mean" in line


def test_data_that_are_not_there(mistake, config):
    line = mistake(1, TRAIN, config, "--cfg-options", "data_root=nowhere")

    assert line.startswith("error: found 0 images: 'nowhere/train' does not exist.")
    assert "nowhere/train/good/part_001.png" in line


def test_a_split_that_is_not_there(mistake, config):
    line = mistake(1, TRAIN, config, "--cfg-options", "val=valid")

    assert "/valid' does not exist. Expected: one folder per class" in line


@pytest.mark.parametrize("option", ["--resume", "--load-from"])
def test_a_checkpoint_to_train_from_that_is_not_there(mistake, config, option):
    line = mistake(1, TRAIN, config, option, "nowhere.pth")

    assert line == "error: checkpoint 'nowhere.pth' does not exist."


def test_a_checkpoint_to_test_that_is_not_there(mistake, config):
    assert "'nowhere.pth' does not exist" in mistake(1, TEST, config, "nowhere.pth")


def test_images_that_are_not_there(mistake, trained):
    line = mistake(1, DEMO, trained.config, trained.checkpoint, "nowhere/*.png")

    assert "No such file or folder, and no match as a glob: nowhere/*.png." in line


@pytest.mark.parametrize("tool", [TRAIN, TEST, DEMO])
def test_a_folder_for_the_results_that_is_a_file(mistake, trained, tmp_path, tool):
    (tmp_path / "file").write_text("", encoding="utf-8")
    arguments = {
        TRAIN: ["--work-dir", "file"],
        TEST: [trained.checkpoint, "--out", "file"],
        DEMO: [trained.checkpoint, str(trained.data_root), "--out", "file"],
    }

    line = mistake(1, tool, trained.config, *arguments[tool])

    assert re.match(r"error: '.*file' cannot be used: File exists\.$", line)


def test_a_device_that_is_not_there(mistake, trained):
    images = trained.data_root / "val"

    line = mistake(1, DEMO, trained.config, trained.checkpoint, images, "--device", "gpu")

    assert "device 'gpu' cannot be used: Expected one of cpu, cuda" in line


# ---- misspelt types and options ----


@pytest.mark.parametrize(
    ("option", "place", "nearest"),
    [
        ("model.type=aicore.TimmClassifer", "model.type", "aicore.TimmClassifier"),
        ("resize.type=Resise", "resize.type", "Resize"),
        ("loss.type=CrossEntropyLos", "loss.type", "CrossEntropyLoss"),
        ("optim_wrapper.optimizer.type=Adamw", "optim_wrapper.optimizer.type", "AdamW"),
        ("param_scheduler.0.type=LinearLr", "param_scheduler[0].type", "LinearLR"),
        ("default_hooks.progress.type=aicore.Progress", "progress.type", "aicore.ProgressHook"),
        ("val_evaluator.metrics.0.type=Acuracy", "metrics[0].type", "Accuracy"),
    ],
)
def test_a_misspelt_type(mistake, config, option, place, nearest):
    line = mistake(1, TRAIN, config, "--cfg-options", option)

    assert f"{place} = {option.partition('=')[2]!r} is not registered" in line
    assert f"{nearest!r}" in line


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("max_epoch=3", "has no setting 'max_epoch'. Did you mean 'max_epochs'"),
        ("model_name=resnet81", "'resnet81' is not a model of timm"),
        ("model.drop=0.1", "model.drop: ResNet takes no argument 'drop'"),
        ("train_dataloader.batchsize=4", "train_dataloader.batchsize: DataLoader takes no"),
        ("train_cfg.max_epoch=4", "Did you mean 'max_epochs'"),
        ("loss.class_weights=[1]", "loss.class_weights: CrossEntropyLoss takes no argument"),
        ("loss.class_weight=[1,2]", "class_weight has 2 values for 3 classes"),
        ("classes=good", "classes = 'good' is not a list of names"),
        ("pretrained=nowhere.pth", "checkpoint 'nowhere.pth' does not exist"),
    ],
)
def test_a_misspelt_option(mistake, config, option, sentence):
    assert sentence in mistake(1, TRAIN, config, "--cfg-options", option)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "the following arguments are required: config"),
        (["c.py", "--max-epochs", "3"], "unrecognized arguments: --max-epochs 3"),
        (["c.py", "--cfg-options", "max_epochs"], "is not of the form key=value"),
    ],
)
def test_a_misspelt_command_line(mistake, arguments, sentence):
    assert sentence in mistake(2, TRAIN, *arguments)


def test_a_misspelt_setting_in_a_file(mistake, config):
    config.write_text(config.read_text(encoding="utf-8") + "num_worker = 4\n", encoding="utf-8")

    assert "nothing uses the setting 'num_worker'" in mistake(1, TRAIN, config)


def test_two_options_that_exclude_each_other(mistake, config, trained):
    line = mistake(1, TRAIN, config, "--resume", "--load-from", trained.checkpoint)

    assert "exclude each other" in line


# ---- broken checkpoints ----


@pytest.mark.parametrize("kind", ["truncated", "text"])
@pytest.mark.parametrize("tool", [TRAIN, TEST, DEMO])
def test_a_broken_checkpoint(mistake, config, trained, tmp_path, tool, kind):
    broken = tmp_path / "broken.pth"
    content = trained.checkpoint.read_bytes() if kind == "truncated" else b"hello world " * 99
    broken.write_bytes(content[:1000])
    arguments = {
        TRAIN: [config, "--load-from", broken],
        TEST: [config, broken],
        DEMO: [config, broken, trained.data_root / "val"],
    }

    line = mistake(1, tool, *arguments[tool])

    assert f"checkpoint {str(broken)!r} (1000 bytes) cannot be read, it is broken or not a" in line


@pytest.mark.parametrize("tool", [TEST, DEMO])
def test_a_checkpoint_of_another_model(mistake, config, trained, tool):
    images = [trained.data_root / "val"] if tool == DEMO else []

    line = mistake(1, tool, config, trained.checkpoint, *images)

    assert "does not fit the model of the config: " in line
    assert "Use the config that it was trained with." in line


def test_resuming_from_weights_alone(mistake, trained):
    line = mistake(1, TRAIN, trained.config, "--resume", trained.checkpoint)

    assert "holds weights only, training cannot be resumed from it. Use --load-from" in line


# ---- wrong data ----


def test_a_class_that_labels_txt_lacks(mistake, config, tmp_path):
    (tmp_path / "train.txt").write_text("a.png good\nb.png scrach\n", encoding="utf-8")
    (tmp_path / "labels.txt").write_text("good\nscratch\n", encoding="utf-8")
    options = [f"data_root={tmp_path}", "train=train.txt", "val=train.txt"]

    line = mistake(1, TRAIN, config, "--cfg-options", *options)

    assert "train.txt, line 2: class 'scrach' is neither one of the classes good, scratch" in line
    assert "Did you mean 'scratch'? Add it to labels.txt" in line


def test_an_image_that_is_not_one(mistake, trained, tmp_path):
    text = tmp_path / "parts" / "b.png"
    text.parent.mkdir()
    text.write_text("no image", encoding="utf-8")
    shutil.copy(trained.data_root / "val" / "dark" / "dark_0.png", text.with_name("a.png"))

    line = mistake(1, DEMO, trained.config, trained.checkpoint, "parts", "--out", "out")

    assert line == (
        "error: 1 of 2 images were not inspected, the first: parts/b.png: it is not an image; "
        "expected jpg, png, bmp, tif, webp, pgm or ppm"
    )
    assert (tmp_path / "out" / "a.png").exists()


def test_too_many_images_that_are_none(mistake, config, class_folders, tmp_path):
    shutil.copytree(class_folders, tmp_path / "data")
    for file in (tmp_path / "data" / "train").rglob("*_0.png"):
        file.write_text("no image", encoding="utf-8")

    line = mistake(1, TRAIN, config, "--cfg-options", f"data_root={tmp_path / 'data'}")

    assert "train images" in line
    assert "cannot be read, more than the allowed 5%" in line


# ---- help ----


def test_help_imports_nothing_heavy(run_tool, tmp_path):
    probe = tmp_path / "probe.py"
    probe.write_text(
        "import runpy, sys\n"
        "for tool in sys.argv[1:]:\n"
        "    sys.argv = [tool, '--help']\n"
        "    try:\n"
        "        runpy.run_path(tool, run_name='__main__')\n"
        "    except SystemExit as end:\n"
        "        print('code', end.code, 'torch' in sys.modules)\n",
        encoding="utf-8",
    )

    done = run_tool(str(probe), *(REPOSITORY / tool for tool in TOOLS))

    assert done.returncode == 0, done.stderr
    pages = done.stdout.split("code 0 False\n")
    assert len(pages) == len(TOOLS) + 1
    for tool, page in zip(TOOLS, pages, strict=False):
        assert page.startswith(f"usage: {Path(tool).name} "), page
    assert pages[-1] == ""
