from __future__ import annotations

import math
import shutil
from pathlib import Path

import mmengine.optim  # noqa: F401  registers the schedulers
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

from aicore.config import load_config, without_pretrained
from aicore.errors import AicoreError, ConfigError, DataError
from aicore.options import OptionText

CONFIGS = Path(__file__).parents[1] / "configs"
SCHEDULES = CONFIGS / "_base_" / "schedules"
DATASETS = CONFIGS / "_base_" / "datasets"
LEAVES = sorted(path.relative_to(CONFIGS) for path in CONFIGS.glob("[!_]*/*.py"))
ONE_PASS = [path for path in LEAVES if path.parts[0] == "anomaly"]  # without classes and epochs
TRAINED = [path for path in LEAVES if path not in ONE_PASS]
OWN_DATA = [path for path in TRAINED if not path.stem.endswith(("_sample", "quickstart"))]


def write(file: Path, text: str) -> Path:
    file.write_text(text, encoding="utf-8")
    return file


def strings(value) -> list[str]:
    """Returns every string below ``value``."""
    if isinstance(value, dict):
        return [text for item in value.values() for text in strings(item)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in strings(item)]
    return [value] if isinstance(value, str) else []


def found(value, key: str) -> list:
    """Returns the values of a key everywhere below ``value``."""
    if isinstance(value, list | tuple):
        return [item for part in value for item in found(part, key)]
    if not isinstance(value, dict):
        return []
    own = [value[key]] if key in value else []
    return own + [item for part in value.values() for item in found(part, key)]


@pytest.fixture
def leaf(tmp_path):
    """A leaf over a base file whose settings follow from ``width``."""
    write(
        tmp_path / "base.py",
        "width = 2\nheight = '${width * 3}'\n"
        "nested = dict(size=('${width}', '${height}'), name='${width}x${height}.png')\n"
        "box = ['${nested}', dict(area='${width * height}')]\n",
    )
    return write(tmp_path / "leaf.py", "_base_ = './base.py'\n")


def write_lists(root: Path, labels: str) -> Path:
    (root / "train.txt").write_text("a.png 0\n", encoding="utf-8")
    (root / "labels.txt").write_text(labels, encoding="utf-8")
    return root


def classification(file: Path, settings: str) -> Path:
    base = DATASETS / "classification.py"
    return write(file, f"_base_ = {base.as_posix()!r}\n{settings}")


# ---- expressions ----


def test_an_expression_sees_what_the_leaf_sets(leaf):
    write(leaf, leaf.read_text(encoding="utf-8") + "width = 5\n")

    config = load_config(leaf)

    assert config.height == 15
    assert config.nested.name == "5x15.png"


def test_an_expression_sees_what_an_option_sets(leaf):
    config = load_config(leaf, {"width": 7, "nested.extra": "${height}"})

    assert config.nested.to_dict() == {"size": (7, 21), "name": "7x21.png", "extra": 21}
    assert config.box == [config.nested, {"area": 147}]


def test_values_are_copies(leaf):
    config = load_config(leaf)

    config.box[0].name = "other"

    assert config.nested.name == "2x6.png"


def test_a_replaced_expression_is_a_plain_value(leaf):
    config = load_config(leaf, {"height": 4})

    assert config.nested.size == (2, 4)


def test_values_keep_their_type(tmp_path):
    file = write(
        tmp_path / "c.py",
        "a = (1, 2.5, None)\nb = '${a}'\nc = '${a[1]}'\nd = '${a[2]}'\ne = '${[x * 2 for x in (1, "
        "2)]}'\nf = \"${'yes' if c > 2 else 'no'}\"\ng = '${a} and ${c}'\n",
    )

    config = load_config(file)

    assert config.b == (1, 2.5, None)
    assert (config.c, config.d, config.e, config.f) == (2.5, None, [2, 4], "yes")
    assert config.g == "(1, 2.5, None) and 2.5"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("len(a)", 3),
        ("min(a)", 1),
        ("max(4, 5)", 5),
        ("pair(7)", (7, 7)),
        ("pair(a[:2])", (3, 1)),
        ("int(2.9)", 2),
        ("round(2.567, 1)", 2.6),
        ("sum(a) / 3", 2),
    ],
)
def test_functions(tmp_path, expression, value):
    file = write(tmp_path / "c.py", f"a = (3, 1, 2)\nb = '${{{expression}}}'\n")

    assert load_config(file).b == value


def test_settings_that_refer_to_each_other(tmp_path):
    file = write(tmp_path / "c.py", "a = '${b + 1}'\nb = '${c}'\nc = dict(d='${a}')\n")

    with pytest.raises(ConfigError, match="refer to each other: a -> b -> c -> a"):
        load_config(file)


def test_an_unknown_name(tmp_path):
    file = write(tmp_path / "c.py", "max_epochs = 3\na = dict(end=['${max_epoch}'])\n")

    with pytest.raises(ConfigError, match=r"names the setting 'max_epoch'.*mean 'max_epochs'\?"):
        load_config(file)


@pytest.mark.parametrize(
    "expression",
    [
        "a +",
        "a / 0",
        "a['x']",
        "[1, 2][5]",
        "{'x': 1}['y']",
        "a.real.nothing",
        "a + 'x'",
        "int('x')",
        "open('/etc/passwd')",
        "__import__('os').getcwd()",
        "a.__class__",
    ],
)
def test_what_does_not_compute(tmp_path, expression):
    file = write(tmp_path / "c.py", f'a = 1\nb = dict(c=["${{{expression}}}"])\n')

    with pytest.raises(ConfigError, match=r"c\.py: b\.c\[0\] = .* cannot be worked out: ."):
        load_config(file)


def test_text_with_other_signs_stays(tmp_path):
    file = write(tmp_path / "c.py", "a = '$5 {b} ${'\nb = '^.*$'\n")

    config = load_config(file)

    assert (config.a, config.b) == ("$5 {b} ${", "^.*$")


# ---- misspelt settings ----


@pytest.mark.parametrize("line", ["max_epoch = 5", "learning_rat = 0.1", "pixel_men = [1, 2, 3]"])
def test_a_misspelt_setting_in_a_leaf(tmp_path, line):
    base = CONFIGS / "classification" / "resnet18_sample.py"
    file = write(tmp_path / "c.py", f"_base_ = {base.as_posix()!r}\n{line}\n")

    name = line.split()[0]
    with pytest.raises(ConfigError, match=rf"nothing uses the setting '{name}'. Did you mean"):
        load_config(file)


def test_a_helper_variable_is_fine(tmp_path):
    base = CONFIGS / "classification" / "resnet18_sample.py"
    file = write(tmp_path / "c.py", f"_base_ = {base.as_posix()!r}\nfolder_of_mine = 'parts'\n")

    assert load_config(file).folder_of_mine == "parts"


# ---- options ----


def test_an_unknown_option(leaf):
    with pytest.raises(ConfigError, match=r"has no setting 'widht'\. Did you mean 'width'\?"):
        load_config(leaf, {"widht": 3})


def test_an_option_below_a_value_that_is_no_dict(leaf):
    with pytest.raises(ConfigError, match=r"--cfg-options width\.a=3 does not fit .*leaf\.py"):
        load_config(leaf, {"width.a": 3})


def test_an_option_for_a_list_entry(leaf):
    config = load_config(leaf, {"box.1.area": 3})

    assert config.box[1] == {"area": 3}
    with pytest.raises(ConfigError, match=r"does not fit .*leaf\.py"):
        load_config(leaf, {"box.7.area": 3})


def test_an_option_that_leads_into_an_expression(leaf):
    with pytest.raises(ConfigError, match=r"box\.0\.name: box\.0 is '\$\{nested\}' in .*leaf\.py"):
        load_config(leaf, {"box.0.name": "x"})


# ---- names of data ----

ODD_NAMES = (
    "${width}",
    "$",
    "a ${b",
    "${__import__('os')}",
    "$${width}",
    "{{ fileBasename }}",
    "\udcff",
)


@pytest.mark.parametrize("as_option", [False, True])
def test_names_of_data_are_not_evaluated(tmp_path, as_option):
    file = write(
        tmp_path / "c.py",
        "width = 3\nclasses = None\nmeta = dict(classes='${classes}')\nother = '${meta}'\n"
        "count = '${num_classes}'\n",
    )

    config = load_config(file, {"width": OptionText("4")} if as_option else None, ODD_NAMES)

    assert config.classes == config.meta.classes == config.other.classes == ODD_NAMES
    assert config.count == len(ODD_NAMES)
    config.dump(tmp_path / "dumped.py")
    assert load_config(tmp_path / "dumped.py").to_dict() == config.to_dict()


def test_classes_of_folders_are_not_evaluated(tmp_path):
    for name in ("${max_epochs}", "a"):
        (tmp_path / "train" / name).mkdir(parents=True)
        (tmp_path / "train" / name / "1.png").touch()
    file = classification(tmp_path / "c.py", f"data_root = {str(tmp_path)!r}\nmax_epochs = 3\n")

    config = load_config(file)

    assert config.classes == ("${max_epochs}", "a")


def test_a_second_sign_makes_a_text_of_an_expression(tmp_path):
    file = write(
        tmp_path / "c.py", "lot = 3\nfolder = '/data/$${lot}/${lot}'\nother = '$${lots}'\n"
    )

    config = load_config(file)

    assert (config.folder, config.other) == ("/data/${lot}/3", "${lots}")


# ---- files ----


def test_a_missing_file_names_one_that_is_there():
    with pytest.raises(ConfigError, match=r"resnet19\.py' does not exist\. Did you mean .*net18"):
        load_config(CONFIGS / "classification" / "resnet19.py")


def test_a_missing_folder():
    with pytest.raises(ConfigError, match=r"'nowhere/c\.py' does not exist"):
        load_config("nowhere/c.py")


def test_a_file_that_is_no_python(tmp_path):
    file = write(tmp_path / "c.yaml", "a: 1\n")

    with pytest.raises(ConfigError, match=r"c\.yaml' is not a \.py file"):
        load_config(file)


def test_a_base_that_is_not_beside_the_file_is_told_with_its_path(tmp_path):
    file = write(tmp_path / "own.py", "_base_ = 'configs/classification/resnet18.py'\n")
    base = (CONFIGS / "classification/resnet18.py").resolve()

    with pytest.raises(ConfigError) as caught:
        load_config(file)

    assert f"write the whole path: _base_ = {base.as_posix()!r}." in str(caught.value)
    assert str(tmp_path / "configs/classification/resnet18.py") in str(caught.value)
    write(file, f"_base_ = {base.as_posix()!r}\n")
    assert load_config(file, classes=("a", "b")).model_name == "resnet18"


def test_a_base_that_is_nowhere(tmp_path):
    file = write(tmp_path / "own.py", "_base_ = ['none.py']\n")

    with pytest.raises(ConfigError, match=r"none\.py' does not exist\..*write the whole path\.$"):
        load_config(file)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a = (\n", "SyntaxError"),
        ("import no_such_module\n", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("_base_ = './gone.py'\n", r"gone\.py' does not exist"),
        ("raise RuntimeError('mine')\n", "RuntimeError: mine"),
        ("from aicore.errors import DataError\nraise DataError('mine')\n", "^mine$"),
        (
            "custom_imports = dict(imports=['no_such_module'])\n",
            "ImportError: Failed to import no_such_module$",
        ),
        ("with read_base():\n    from .gone import *\n", "'read_base' is not defined"),
    ],
)
def test_a_file_that_does_not_run(tmp_path, text, reason):
    with pytest.raises(AicoreError, match=reason) as caught:
        load_config(write(tmp_path / "c.py", text))
    assert "\n" not in str(caught.value)


# ---- classes ----


def test_the_number_of_classes_follows_from_the_names(tmp_path):
    file = write(tmp_path / "c.py", "classes = ('a', 'b', 'c')\nn = '${num_classes}'\n")

    assert load_config(file).n == 3
    assert load_config(file, {"classes": ["a", "b"]}).n == 2


def test_a_typed_number_of_classes_wins(tmp_path):
    file = write(tmp_path / "c.py", "classes = None\nnum_classes = 1000\nn = '${num_classes}'\n")

    config = load_config(file)

    assert config.n == 1000
    assert config.classes is None


def test_classes_that_are_an_expression(tmp_path):
    file = write(
        tmp_path / "c.py",
        "n = '${num_classes}'\nclasses = '${names[:2]}'\nnames = ('a', 'b', 'c')\n",
    )

    config = load_config(file)

    assert config.n == 2
    assert config.classes == ("a", "b")


def test_numbers_as_class_names_become_text(tmp_path):
    file = write(tmp_path / "c.py", "classes = ('a', 'b')\n")

    assert load_config(file, {"classes": [0, 1]}).classes == ("0", "1")


@pytest.mark.parametrize("classes", ["good", 3])
def test_classes_that_are_no_list(tmp_path, classes):
    file = write(tmp_path / "c.py", "classes = ('a', 'b')\n")

    with pytest.raises(ConfigError, match=f"classes = {classes!r} is not a list of names"):
        load_config(file, {"classes": classes})


def test_classes_of_folders(tmp_path, class_folders):
    file = classification(tmp_path / "c.py", f"data_root = {str(class_folders)!r}\n")

    config = load_config(file)

    assert config.classes == ("bright", "dark", "striped")
    assert config.val_dataloader.dataset.metainfo.classes == ("bright", "dark", "striped")


def test_classes_of_labels_txt_in_its_order(tmp_path):
    write_lists(tmp_path, "good\n\nscratch \nspot\n")
    file = classification(
        tmp_path / "c.py", f"data_root = {str(tmp_path)!r}\ntrain = 'train.txt'\n"
    )

    assert load_config(file).classes == ("good", "scratch", "spot")


def test_given_classes_are_for_open_configs_only(tmp_path):
    open_file = classification(tmp_path / "open.py", "data_root = 'nowhere'\n")
    closed_file = classification(tmp_path / "closed.py", "classes = ('x', 'y')\n")

    assert load_config(open_file, classes=("a", "b")).classes == ("a", "b")
    assert load_config(closed_file, classes=("a", "b")).classes == ("x", "y")


def test_classes_of_a_data_set_in_wrappers(tmp_path, class_folders):
    file = classification(
        tmp_path / "c.py",
        f"data_root = {str(class_folders)!r}\n"
        "train_dataloader = dict(dataset=dict(_delete_=True, type='RepeatDataset', times=2,\n"
        "    dataset=dict(type='aicore.ClassificationDataset', data_root='${data_root}',\n"
        "        split='train')))\n",
    )

    assert load_config(file).classes == ("bright", "dark", "striped")


def test_open_classes_without_a_data_set(tmp_path):
    file = write(tmp_path / "c.py", "classes = None\n")

    with pytest.raises(ConfigError, match=r"no train_dataloader\.dataset to take the class"):
        load_config(file)


def test_open_classes_with_a_wrong_path(tmp_path):
    file = classification(tmp_path / "c.py", "data_root = 'nowhere'\n")

    with pytest.raises(DataError, match=r"found 0 images: 'nowhere/train' does not exist"):
        load_config(file)


def test_open_classes_with_a_misspelt_data_set(tmp_path):
    file = classification(tmp_path / "c.py", "")

    with pytest.raises(ConfigError, match=r"Did you mean 'aicore\.ClassificationDataset'"):
        load_config(file, {"train_dataloader.dataset.type": "aicore.ClassificationData"})


# ---- pretrained weights ----


@pytest.mark.parametrize("file", LEAVES, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_no_config_asks_a_network_for_weights(file):
    assert Config.fromfile(CONFIGS / file).get("pretrained", False) is False


def test_without_pretrained_leaves_the_rest_and_the_original():
    model = Config(
        {
            "type": "A",
            "pretrained": "x.pth",
            "parts": [{"pretrained": True, "depth": 3}],
            "pair": ({"pretrained": False},),
            "init_cfg": {"type": "Pretrained", "checkpoint": "x.pth"},
            "head": {"init_cfg": {"type": "Normal", "std": 0.1}},
        }
    )

    plain = without_pretrained(model._cfg_dict)

    assert plain == {
        "type": "A",
        "pretrained": False,
        "parts": [{"pretrained": False, "depth": 3}],
        "pair": ({"pretrained": False},),
        "head": {"init_cfg": {"type": "Normal", "std": 0.1}},
    }
    assert type(plain) is type(model._cfg_dict)
    assert model.pretrained == "x.pth"
    assert model.parts[0].pretrained is True


# ---- the files in configs/ ----


@pytest.mark.parametrize("path", ONE_PASS, ids=str)
def test_every_one_pass_config_loads(path):
    config = load_config(CONFIGS / path, {"image_size": (96, 128)})

    assert not [text for text in strings(config.to_dict()) if "${" in text]
    assert config.train_cfg == {"type": "aicore.FitLoop"}
    assert tuple(config.model.method.image_size) == (96, 128)
    resize = config.train_dataloader.dataset.pipeline[1]
    assert tuple(resize.size) == (96, 128)
    assert [d.dataset.part for d in (config.train_dataloader, config.val_dataloader)] == [
        "fit",
        "held_out",
    ]


@pytest.mark.parametrize("path", TRAINED, ids=str)
def test_every_config_loads(path):
    names = ("one", "two", "three", "four", "five", "six")
    config = load_config(CONFIGS / path, classes=names)

    assert not [text for text in strings(config.to_dict()) if "${" in text]
    others = tuple("abcde")
    base = load_config(CONFIGS / path, classes=others)
    count = 6 if base.classes == others else len(base.classes)  # its own, of a known data set
    assert len(config.classes) == count
    counts = found(config.model.to_dict(), "num_classes")
    assert counts
    assert set(counts) == {count}
    for split in ("train", "val", "test"):
        assert config[f"{split}_dataloader"].dataset.metainfo.classes == config.classes
    quiet = config.get("constant_epochs", 0)  # with the smallest learning rate
    assert config.train_cfg.max_epochs == config.max_epochs
    assert config.param_scheduler[-1].end == config.max_epochs - quiet


@pytest.mark.parametrize("path", [OWN_DATA[0], LEAVES[-1]], ids=str)
def test_a_dumped_config_reloads_equal(tmp_path, path):
    config = load_config(CONFIGS / path, {"max_epochs": 7}, classes=("one", "two"))

    config.dump(tmp_path / "dumped.py")
    reloaded = load_config(tmp_path / "dumped.py")

    assert reloaded.to_dict() == config.to_dict()
    assert Config.fromfile(tmp_path / "dumped.py").to_dict() == config.to_dict()


@pytest.mark.parametrize("path", LEAVES, ids=str)
def test_leaves_are_short(path):
    lines = (CONFIGS / path).read_text(encoding="utf-8").splitlines()

    assert len(lines) <= (25 if path.stem == "quickstart" else 12)


def test_a_pipeline_of_ones_own_reaches_every_data_loader(tmp_path):
    file = classification(
        tmp_path / "c.py",
        "classes = ('a', 'b')\nresize = dict(type='ResizeEdge')\n"
        "test_pipeline = ['${load_image}', dict(type='PackInputs')]\n",
    )

    config = load_config(file)

    assert config.train_dataloader.dataset.pipeline[1].type == "ResizeEdge"
    for loader in (config.val_dataloader, config.test_dataloader):
        assert [step.type for step in loader.dataset.pipeline] == ["aicore.LoadImage", "PackInputs"]


@pytest.mark.parametrize(("channels", "mean"), [(3, [123.675, 116.28, 103.53]), (1, [114.495])])
@pytest.mark.parametrize(
    "path", ["classification/resnet18_sample.py", "segmentation/unet_resnet18_sample.py"]
)
def test_mean_and_deviation_follow_the_channels(channels, mean, path):
    config = load_config(CONFIGS / path, {"in_channels": channels})

    assert config.model.data_preprocessor.mean == pytest.approx(mean)
    assert len(config.model.data_preprocessor.std) == channels
    assert found(config.model.to_dict(), "in_channels") == [channels]
    assert config.train_dataloader.dataset.pipeline[0].in_channels == channels


def test_a_config_of_own_data_takes_eight_lines(tmp_path, class_folders):
    shutil.copytree(class_folders, tmp_path / "data")
    base = CONFIGS / "classification" / "resnet18.py"
    file = write(tmp_path / "mine.py", f"_base_ = {str(base)!r}\ndata_root = {str(tmp_path)!r}\n")

    config = load_config(file, {"train": "data/train"})

    assert config.model.num_classes == 3


# ---- schedules ----

LENGTH = 10  # iterations an epoch


def learning_rates(name: str, options: dict) -> tuple[list[float], Config]:
    """Returns the learning rate of every iteration as MMEngine's hook steps the schedule."""
    config = load_config(SCHEDULES / f"{name}.py", options)
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=config.optim_wrapper.optimizer.lr)
    defaults = dict(optimizer=optimizer, epoch_length=LENGTH)
    schedulers = [
        PARAM_SCHEDULERS.build(item, default_args=defaults) for item in config.param_scheduler
    ]
    rates = []
    for _ in range(config.max_epochs):
        for _ in range(LENGTH):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            for scheduler in schedulers:
                if not scheduler.by_epoch:
                    scheduler.step()
        for scheduler in schedulers:
            if scheduler.by_epoch:
                scheduler.step()
    return rates, config


def warm_up(step: int, steps: int) -> float:
    return 0.01 + 0.99 * step / (steps - 1)


def cosine(step: int, begin: int, end: int, least: float) -> float:
    return least + (1 - least) / 2 * (1 + math.cos(math.pi * (step - begin) / (end - begin)))


def test_cosine_schedule():
    rates, config = learning_rates("cosine", {"max_epochs": 6, "warmup_epochs": 2})

    expected = [warm_up(i, 20) if i < 20 else cosine(i, 20, 60, 0.01) for i in range(60)]
    assert rates == pytest.approx([config.learning_rate * value for value in expected])
    assert config.optim_wrapper.optimizer.type == "AdamW"


def test_multistep_schedule():
    rates, config = learning_rates("multistep", {"max_epochs": 9, "learning_rate": 0.5})

    expected = [warm_up(i, 10) if i < 10 else 0.1 ** ((i >= 60) + (i >= 80)) for i in range(90)]
    assert rates == pytest.approx([0.5 * value for value in expected])
    assert config.optim_wrapper.optimizer.type == "SGD"


def test_poly_schedule():
    rates, config = learning_rates("poly", {"max_epochs": 5, "poly_power": 0.7})

    expected = [
        warm_up(i, 10) if i < 10 else 0.01 + 0.99 * (1 - (i - 10) / 39) ** 0.7 for i in range(50)
    ]
    assert rates == pytest.approx([config.learning_rate * value for value in expected])


def test_yolox_schedule():
    options = {"max_epochs": 12, "warmup_epochs": 2, "last_epochs": 3}
    rates, config = learning_rates("yolox", options)

    expected = [((i + 1) / 20) ** 2 if i < 20 else cosine(i, 20, 90, 0.05) for i in range(90)]
    assert rates[:90] == pytest.approx([config.learning_rate * value for value in expected])
    assert len(set(rates[90:])) == 1
    assert rates[-1] == pytest.approx(config.learning_rate * 0.05, rel=0.02)
    assert config.optim_wrapper.optimizer.nesterov is True
    assert config.auto_scale_lr.base_batch_size == 64


@pytest.mark.parametrize("name", ["cosine", "multistep", "poly"])
def test_a_schedule_without_warm_up_begins_at_the_learning_rate(name):
    rates, config = learning_rates(name, {"max_epochs": 4, "warmup_epochs": 0})

    assert rates[:2] == pytest.approx([config.learning_rate] * 2, rel=0.03)


@pytest.mark.parametrize("name", ["cosine", "multistep", "poly", "yolox"])
def test_a_training_shorter_than_its_warm_up(name):
    rates, config = learning_rates(name, {"max_epochs": 1})

    assert rates == sorted(rates)
    assert 0 < rates[0] < rates[-1] <= config.learning_rate


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch_size", "many"),
        ("batch_size", 0),
        ("image_size", -3),
        ("image_size", (64, 0)),
        ("max_epochs", 0),
        ("max_epochs", 2.5),
        ("num_workers", -1),
        ("patience", 0),
        ("seed", -1),
        ("seed", "abc"),
        ("seed", 2**32),
        ("randomness.seed", -1),
    ],
)
def test_a_knob_out_of_its_range_is_refused(name, value):
    with pytest.raises(ConfigError, match=rf"{name} = .*: expected a whole number (of at|from)"):
        load_config(CONFIGS / LEAVES[-1], {name: value}, classes=("a", "b"))


@pytest.mark.parametrize("topk", [3, (1, 5), [3], 0])
def test_a_top_k_of_more_than_all_classes_is_refused(topk):
    with pytest.raises(
        ConfigError, match=r"topk = .*: (there are 2 classes \(a, b\)|expected a whole)"
    ):
        load_config(CONFIGS / "classification/resnet18.py", {"topk": topk}, classes=("a", "b"))


@pytest.mark.parametrize(("name", "value"), [("train", 2024), ("data_root", 7), ("val", 1e5)])
def test_a_text_that_is_a_number_is_refused(tmp_path, name, value):
    file = classification(tmp_path / "c.py", f"{name} = {value}\n")

    with pytest.raises(ConfigError, match=rf"{name} = {value!r}: expected a text, {name} = '"):
        load_config(file, classes=("a", "b"))


@pytest.mark.parametrize("value", [0, -1e-3, "fast"])
def test_a_learning_rate_has_to_be_above_zero(value):
    with pytest.raises(ConfigError, match=r"learning_rate = .*: expected a number above 0"):
        load_config(CONFIGS / LEAVES[-1], {"learning_rate": value}, classes=("a", "b"))


@pytest.mark.parametrize(("size", "pair"), [(64, (64, 64)), ((48, 64), (48, 64))])
def test_an_image_size_is_one_number_or_height_and_width(size, pair):
    classification, segmentation = (
        load_config(CONFIGS / path, {"image_size": size}, classes=("a", "b"))
        for path in ("classification/resnet18.py", "segmentation/unet_resnet18.py")
    )

    assert classification.resize.scale == pair[::-1]
    (resize,) = segmentation.resize.transforms
    assert (resize.height, resize.width) == pair


def test_large_images_in_one_line():
    path = CONFIGS / "segmentation/unet_resnet18.py"
    whole, tiles = (
        load_config(path, {"tile_size": size}, classes=("a", "b")) for size in (None, 512)
    )

    steps = [[step.type for step in c.train_dataloader.dataset.pipeline] for c in (whole, tiles)]
    assert steps[0][2:4] == ["aicore.Albu", "aicore.Albu"]
    assert steps[1][2:4] == ["aicore.RandomClassCrop", "aicore.Albu"]
    assert tiles.train_dataloader.dataset.pipeline[2].size == (512, 512)
    tests = [[step.type for step in c.test_dataloader.dataset.pipeline] for c in (whole, tiles)]
    assert tests[0] == ["aicore.LoadImage", "aicore.Albu", "aicore.LoadMask", "PackSegInputs"]
    assert tests[1] == ["aicore.LoadImage", "aicore.LoadMask", "PackSegInputs"]
    assert whole.model.test_cfg == {"mode": "whole"}
    assert tiles.model.test_cfg == {
        "mode": "slide",
        "crop_size": (512, 512),
        "stride": [384, 384],
    }


@pytest.mark.parametrize(("pretrained", "factor"), [(False, 1.0), ("weights.pth", 0.1)])
def test_a_pretrained_encoder_learns_more_slowly(pretrained, factor):
    path = CONFIGS / "segmentation/unet_resnet18.py"

    config = load_config(path, {"pretrained": pretrained}, classes=("a", "b"))

    modules = config.optim_wrapper.paramwise_cfg.modules
    assert modules == {"backbone": {"lr_mult": factor}}
