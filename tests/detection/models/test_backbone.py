from __future__ import annotations

import pytest
import torch

from aicore.detection.models import CSPDarknet
from aicore.detection.models.backbone import Stem
from aicore.engine.checkpoint import load_weights
from aicore.errors import CheckpointError
from tests.detection.models.conftest import unlike_new


def make(in_channels: int) -> CSPDarknet:
    torch.manual_seed(0)
    network = CSPDarknet(in_channels, deepen_factor=0.33, widen_factor=0.125)
    unlike_new(network)
    return network.eval()


def load_state_dict(network, weights):
    network.load_state_dict(weights)


def load_checkpoint(network, weights):
    load_weights(network, dict(weights), strict=True, source="theirs.pth")


@pytest.mark.parametrize("load", [load_state_dict, load_checkpoint])
def test_weights_of_three_channels_are_summed_for_one(load):
    colour, grey = make(3), make(1)
    load(grey, colour.state_dict())
    image = torch.rand(1, 1, 64, 96) * 255

    with torch.no_grad():
        expected = colour(image.repeat(1, 3, 1, 1))
        found = grey(image)

    assert [feature.shape[2:] for feature in found] == [(8, 12), (4, 6), (2, 3)]
    for a, b in zip(found, expected, strict=True):
        assert (a - b).abs().max() < 1e-5 * b.abs().max()


def test_the_weights_given_stay_as_they_are():
    weights = make(3).state_dict()
    shape = weights["stem.conv.conv.weight"].shape

    make(1).load_state_dict(weights)

    assert weights["stem.conv.conv.weight"].shape == shape


@pytest.mark.parametrize("in_channels", [1, 3])
def test_weights_of_as_many_channels_are_taken_as_they_are(in_channels):
    network = make(in_channels)
    weights = {key: weight.clone() for key, weight in network.state_dict().items()}
    other = make(in_channels)

    other.load_state_dict(weights)

    assert all(torch.equal(weight, weights[key]) for key, weight in other.state_dict().items())


def test_weights_of_one_channel_do_not_fit_three():
    with pytest.raises(CheckpointError, match=r"stem\.conv\.conv\.weight 8x4x3x3 for 8x12x3x3"):
        load_checkpoint(make(3), make(1).state_dict())


def test_the_order_of_the_stem_is_that_of_the_authors():
    """Neighbouring pixels first, colours within: top left, bottom left, top right, bottom right."""
    stem = Stem(1, 4, kernel_size=1, norm_cfg=None, act_cfg=None)
    with torch.no_grad():
        stem.conv.conv.weight.copy_(torch.eye(4)[..., None, None])
        stem.conv.conv.bias.zero_()
        found = stem(torch.arange(16.0).reshape(1, 1, 4, 4))

    assert found[0, :, 0, 0].tolist() == [0, 4, 1, 5]
