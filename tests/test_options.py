from __future__ import annotations

from pathlib import Path

import pytest

from aicore.config import load_config
from aicore.errors import ConfigError
from aicore.options import OptionText, parse

CONFIGS = Path(__file__).parents[1] / "configs"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-1e-3", -0.001),
        ("true", True),
        ("None", None),
        ("resnet18", "resnet18"),
        ("a,b", ["a", "b"]),
        ("[1, 2]", [1, 2]),
        ("(1,2)", (1, 2)),
        ("(1,)", (1,)),
        ("[]", []),
        ("()", ()),
        ("[(1,a),b]", [(1, "a"), "b"]),
        ("(1,2),(3,4)", [(1, 2), (3, 4)]),
        ("", ""),
        ("a=b", "a=b"),
        ("/data/my parts/train", "/data/my parts/train"),
        ("[a part, b]", ["a part", "b"]),
        ("'quoted text'", "quoted text"),
        ("'2024'", "2024"),
        ('"[1,2]"', "[1,2]"),
        ("['a,b', \"2\", 2]", ["a,b", "2", 2]),
        ("it's,3", ["it's", 3]),
        ("max(1,2)", "max(1,2)"),
        ("数据/零件 1", "数据/零件 1"),
    ],
)
def test_values(text, value):
    parsed = parse(text)

    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("text", ["[1,(2]", "(1,2", "a]", "['a", "(1]"])
def test_brackets_and_quotes_have_to_match(text):
    with pytest.raises(ValueError, match="do not match"):
        parse(text)


CONFIG = """
train = "train"
val = None
data_root = "/data"
pretrained = False
classes = None
num_classes = 2
names = ("a", "b")
seed = 0
rate = 0.5
ema = False
size = 224
steps = [1, 2]
pattern = "${train}"
double = "${size * 2}"
folder = "${data_root}/x"
data = dict(split="${train}", seed="${seed}", size="${double}", folder="${folder}")
"""


def load(folder: Path, *options: str):
    file = folder / "c.py"
    file.write_text(CONFIG, encoding="utf-8")
    pairs = (option.partition("=") for option in options)
    return load_config(file, {key: OptionText(text) for key, _, text in pairs})


@pytest.mark.parametrize(
    "text",
    ["2024", "007", "1e5", "1_000", "nan", "/a,b", "/a (1)", "[a", "a b", "it's", "a=b", "零件,1"],
)
@pytest.mark.parametrize(
    "key", ["train", "val", "data_root", "data.split", "pattern", "pretrained"]
)
def test_a_text_stays_as_it_was_typed(tmp_path, key, text):
    config = load(tmp_path, f"{key}={text}")

    assert config.get(key, config.data.split) == text


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("train=None", None),
        ("train=[good, 2024]", ["good", "2024"]),
        ('names="[good,01]"', ["good", "01"]),  # quotes that the shell has left
        ("size='[224,256]'", [224, 256]),
        ("seed='7'", 7),
        ("train='[good]'", "[good]"),
        ("train='None'", "None"),
        ("train='007'", "007"),
        ('train="true"', "true"),
        ("train=${names[1]}", "b"),
        ("pretrained=true", True),
        ("pretrained=weights.pth", "weights.pth"),
        ("folder=${data_root}/y", "/data/y"),
        ("seed=7", 7),
        ("seed=${size}", 224),
        ("seed=None", None),
        ("rate=1e-3", 0.001),
        ("ema=true", True),
        ("size=224,256", [224, 256]),
        ("size=(224,256)", (224, 256)),
        ("steps=3,4", [3, 4]),
        ("double=7", 7),
        ("names=[01,2 b]", ["01", "2 b"]),
    ],
)
def test_other_values_are_of_the_type_of_their_setting(tmp_path, option, value):
    config = load(tmp_path, option)

    assert config[option.partition("=")[0]] == value


def test_class_names_are_texts(tmp_path):
    assert load(tmp_path, "classes=[001,true,None,a b]").classes == ("001", "true", "None", "a b")
    assert load(tmp_path, "classes=1,'2,3'").classes == ("1", "2,3")


@pytest.mark.parametrize("option", ["seed=abc", "data.seed=abc", "rate=fast", "size=max(1,2)"])
def test_a_number_that_is_a_text_is_told(tmp_path, option):
    with pytest.raises(ConfigError, match="expected a number") as caught:
        load(tmp_path, option)

    assert f"--cfg-options {option}: " in str(caught.value)


def test_brackets_that_do_not_match_are_told(tmp_path):
    with pytest.raises(ConfigError, match=r"--cfg-options size=\[1,\(2\]: brackets do not match"):
        load(tmp_path, "size=[1,(2]")


@pytest.mark.parametrize(
    "path",
    [
        "classification/resnet18.py",
        "segmentation/unet_resnet18.py",
        "detection/yolox_nano.py",
        "anomaly/padim_resnet18.py",
    ],
)
@pytest.mark.parametrize("name", ["train", "val", "data_root"])
def test_folders_of_every_task_may_be_numbers(path, name):
    config = load_config(CONFIGS / path, {name: OptionText("007")}, classes=("good", "bad"))

    assert config[name] == "007"
