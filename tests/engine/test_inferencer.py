from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample

from aicore.classification import ClassificationInferencer
from aicore.config import load_config
from aicore.errors import CheckpointError, ConfigError, DataError
from aicore.runtime.images import read_image

CLASSES = ("bright", "dark", "striped")


@pytest.fixture(scope="module")
def inferencer(trained):
    return ClassificationInferencer(trained.config, trained.checkpoint, device="cpu")


@pytest.fixture(scope="module")
def files(trained):
    return sorted((trained.data_root / "val").rglob("*.png"))


def scores(records: list[dict]) -> np.ndarray:
    return np.array([list(record["pred_scores"].values()) for record in records])


# ---- inputs ----


def test_a_file(inferencer, files):
    result = inferencer(files[0])

    (record,) = result["predictions"]
    assert record.keys() == {"image", "inspected", "prediction", "pred_score", "pred_scores"}
    assert record["image"] == str(files[0])
    assert record["inspected"] is True
    assert tuple(record["pred_scores"]) == CLASSES
    assert sum(record["pred_scores"].values()) == pytest.approx(1, abs=1e-5)
    assert record["pred_score"] == max(record["pred_scores"].values())
    assert record["pred_scores"][record["prediction"]] == record["pred_score"]
    assert result["visualization"] == []


def test_a_folder_a_glob_and_a_list_in_their_order(inferencer, files, trained):
    folder = inferencer(str(trained.data_root / "val"))["predictions"]
    pattern = inferencer(f"{trained.data_root}/val/dark/*_[01].png")["predictions"]
    mixed = inferencer([files[5], read_image(files[3]), trained.data_root / "val" / "dark"])

    assert [record["image"] for record in folder] == [str(file) for file in files]
    assert [Path(record["image"]).name for record in pattern] == ["dark_0.png", "dark_1.png"]
    images = [record["image"] for record in mixed["predictions"]]
    assert images[:2] == [str(files[5]), None]
    assert len(images) == 6


def test_an_array_gets_the_scores_of_its_file(inferencer, files):
    from_files = inferencer(files)["predictions"]
    from_arrays = inferencer([read_image(file) for file in files])["predictions"]

    assert np.array_equal(scores(from_arrays), scores(from_files))
    assert {record["image"] for record in from_arrays} == {None}


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_the_batch_size_changes_no_score(inferencer, files, batch_size):
    whole = inferencer(files, batch_size=8)["predictions"]

    parts = inferencer(files, batch_size=batch_size)["predictions"]

    assert np.allclose(scores(parts), scores(whole), atol=2e-6)
    assert [r["prediction"] for r in parts] == [r["prediction"] for r in whole]


def test_images_of_several_sizes_and_depths_in_one_batch(inferencer):
    generator = np.random.default_rng(0)
    colour = generator.integers(0, 256, (40, 60, 3), np.uint8)
    grey = generator.integers(0, 256, (32, 32), np.uint8)  # needs no resizing, which rounds
    deep = grey.astype(np.uint16) * 257

    records = inferencer([colour, grey, deep, deep[..., None]])["predictions"]

    assert [record["inspected"] for record in records] == [True] * 4
    assert np.allclose(scores(records)[1], scores(records)[2:], atol=1e-5)


def test_inputs_stay_as_they_are(inferencer, files):
    image = read_image(files[0])
    before = image.copy()

    inferencer(image, draw=True)

    assert np.array_equal(image, before)


def test_no_inputs(inferencer):
    assert inferencer([]) == {"predictions": [], "visualization": []}


def test_a_path_that_is_not_there(inferencer):
    with pytest.raises(DataError, match="No such file or folder"):
        inferencer("nowhere.png")


def test_an_array_that_is_no_image(inferencer):
    with pytest.raises(DataError, match=r"An array of shape \(2, 32, 32, 3\) is not an image"):
        inferencer(np.zeros((2, 32, 32, 3), np.uint8))


# ---- images that cannot be read ----


def test_a_broken_image_keeps_its_place(inferencer, files, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")

    result = inferencer([files[0], broken, files[9]], draw=True)

    first, second, third = result["predictions"]
    assert second == {
        "image": str(broken),
        "inspected": False,
        "reason": "it is not an image; expected jpg, png, bmp, tif, webp, pgm or ppm",
    }
    alone = inferencer([files[0], files[9]])["predictions"]
    assert np.allclose(scores([first, third]), scores(alone), atol=2e-6)
    assert len(result["visualization"]) == 3


# ---- outputs ----


def test_data_samples(inferencer, files):
    samples = inferencer(files[:2], return_datasamples=True)["predictions"]

    assert [type(sample) for sample in samples] == [DataSample, DataSample]
    assert samples[0].pred_score.shape == (3,)


def test_pictures(inferencer, files):
    pictures = inferencer([files[0], np.zeros((50, 40), np.uint16)], draw=True)["visualization"]

    assert [picture.shape[1:] for picture in pictures] == [(32, 3), (40, 3)]
    assert np.array_equal(pictures[0][:32], cv2.imread(str(files[0])))
    assert pictures[0].shape[0] > 32  # the caption stands below


def test_pictures_are_as_bright_as_the_model_sees_them(trained):
    options = {"white_level": 4095}
    inferencer = ClassificationInferencer(trained.config, trained.checkpoint, "cpu", options)
    image = np.full((32, 32), 2048, np.uint16)  # half way to white for a camera of 12 bits

    (picture,) = inferencer(image, draw=True)["visualization"]

    assert picture[0, 0].tolist() == [128, 128, 128]
    assert inferencer.activation_map(image).mean() > 60


def test_mmengines_steps_give_the_same(inferencer, files):
    whole = inferencer(files[:2], draw=True)
    samples = inferencer(files[:2], return_datasamples=True)["predictions"]

    pictures = inferencer.visualize(files[:2], samples)
    result = inferencer.postprocess(samples, pictures)

    assert result["predictions"] == whole["predictions"]
    assert all(map(np.array_equal, result["visualization"], whole["visualization"]))
    assert inferencer.postprocess(samples, [], return_datasample=True)["predictions"] is samples


def test_the_stream_holds_one_batch_at_a_time(inferencer, files, monkeypatch):
    read = []
    whole = inferencer._read
    monkeypatch.setattr(inferencer, "_read", lambda item: read.append(item) or whole(item))

    stream = inferencer.stream(files, batch_size=4)
    next(stream)

    assert read == files[:4]


# ---- the model ----


def test_the_model_is_ready_and_its_weights_are_the_files(inferencer, trained):
    stored = torch.load(trained.checkpoint, weights_only=False)["state_dict"]
    own = inferencer.model.state_dict()

    assert not inferencer.model.training
    assert all(torch.equal(own[key], weight) for key, weight in stored.items())


def test_classes_come_from_the_checkpoint(trained, tmp_path):
    content = torch.load(trained.checkpoint, weights_only=False)
    content["meta"]["dataset_meta"] = {"classes": ["x", "y", "z"]}
    torch.save(content, tmp_path / "renamed.pth")

    inferencer = ClassificationInferencer(trained.config, tmp_path / "renamed.pth", "cpu")

    assert inferencer.classes == ("x", "y", "z")
    assert inferencer(np.zeros((8, 8), np.uint8))["predictions"][0]["prediction"] in "xyz"


def test_classes_come_from_the_config_where_the_checkpoint_has_none(trained, tmp_path):
    weights = torch.load(trained.checkpoint, weights_only=False)["state_dict"]
    torch.save(weights, tmp_path / "bare.pth")

    inferencer = ClassificationInferencer(trained.config, tmp_path / "bare.pth", "cpu")

    assert inferencer.classes == CLASSES


def test_neither_data_nor_pretrained_weights_are_needed(trained):
    options = {"data_root": "nowhere", "pretrained": "nowhere.pth"}

    inferencer = ClassificationInferencer(trained.config, trained.checkpoint, "cpu", options)

    assert inferencer.classes == CLASSES


def test_another_models_weights_are_refused(trained):
    options = {"model_name": "test_resnet.r160_in1k"}

    with pytest.raises(CheckpointError, match=r"does not fit the model of the config"):
        ClassificationInferencer(trained.config, trained.checkpoint, "cpu", options)


@pytest.mark.parametrize("weights", ["nowhere.pth", "."])
def test_wrong_weights(trained, weights):
    with pytest.raises(CheckpointError, match=r"does not exist|is a folder"):
        ClassificationInferencer(trained.config, weights)


def test_a_config_without_a_pipeline(trained):
    config = load_config(trained.config)
    del config.test_dataloader.dataset["pipeline"]

    with pytest.raises(ConfigError, match=r"test_dataloader\.dataset\.pipeline is not set"):
        ClassificationInferencer(config, trained.checkpoint, "cpu")


def test_a_misspelt_transform(trained):
    config = load_config(trained.config)
    config.test_dataloader.dataset.pipeline[1].type = "Resizze"

    with pytest.raises(ConfigError, match=r"pipeline\[1\]\.type = 'Resizze' is not registered"):
        ClassificationInferencer(config, trained.checkpoint, "cpu")


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_there(trained, device):
    with pytest.raises(ConfigError, match=f"device '{device}' cannot be used: ") as caught:
        ClassificationInferencer(trained.config, trained.checkpoint, device)
    assert "\n" not in str(caught.value)
