from __future__ import annotations

import pytest
import segmentation_models_pytorch as smp
import torch
from mmengine.config import ConfigDict
from mmseg.models import EncoderDecoder as PlainEncoderDecoder

from aicore.errors import ConfigError
from aicore.registry import MODELS
from aicore.segmentation.models.heads import DecoderBlock
from aicore.segmentation.smp import from_smp
from tests.segmentation.models.conftest import SMALL, build, unlike_new, with_labels

SMP = {"aicore.UNetHead": smp.Unet, "aicore.UNetPlusPlusHead": smp.UnetPlusPlus}
HEADS = list(SMP)


# ---- against segmentation_models.pytorch ----


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize(
    ("encoder", "theirs"),
    [
        ("resnet18", "resnet18"),
        ("resnet50", "resnet50"),
        ("efficientnet_b0", "tu-efficientnet_b0"),
        ("convnext_atto", "tu-convnext_atto"),  # no features of stride 2
    ],
)
def test_logits_are_those_of_smp(head, encoder, theirs):
    torch.manual_seed(0)
    reference = SMP[head](theirs, encoder_weights=None, classes=4)
    unlike_new(reference)
    reference.eval()
    model = build(head, encoder)
    model.load_state_dict(from_smp(reference.state_dict()))
    images = torch.randn(2, 3, 64, 96)

    with torch.no_grad():
        ours, expected = model(images, mode="tensor"), reference(images)

    assert expected.std() > 1e-2
    assert torch.allclose(ours, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_gradients_are_those_of_smp(head):
    torch.manual_seed(0)
    reference = SMP[head]("resnet18", encoder_weights=None, classes=4).train()
    model = build(head, "resnet18").train()
    model.load_state_dict(from_smp(reference.state_dict()))
    images, label = torch.randn(2, 3, 64, 64), torch.randint(0, 4, (2, 64, 64))

    for network in (lambda x: model(x, mode="tensor"), reference):
        torch.nn.functional.cross_entropy(network(images), label).backward()

    gradients = from_smp({n: p.grad for n, p in reference.named_parameters()})
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter.grad, gradients[name], rtol=1e-3, atol=1e-6), name


# ---- in mmseg ----


@pytest.mark.parametrize("head", HEADS)
def test_the_heads_work_in_mmsegs_own_model(head):
    model = MODELS.build(
        dict(
            type="EncoderDecoder",
            backbone=dict(type="aicore.TimmBackbone", model_name=SMALL, out_indices=None),
            decode_head=dict(type=head, in_channels=[32, 32, 48, 192, 96], num_classes=4),
            test_cfg=ConfigDict(mode="whole"),
        )
    )
    assert type(model) is PlainEncoderDecoder
    samples = with_labels(2, (64, 64))

    losses = model(torch.randn(2, 3, 64, 64), samples, mode="loss")
    losses["decode.loss_ce"].backward()
    (prediction, _) = model.eval()(torch.randn(2, 3, 64, 64), samples, mode="predict")

    assert prediction.pred_sem_seg.data.shape == (1, 64, 64)


# ---- options ----


@pytest.mark.parametrize(("head", "outputs"), [(HEADS[0], 4), (HEADS[1], 3)])
def test_deep_supervision_adds_losses_and_leaves_the_prediction_alone(head, outputs):
    plain, deep = build(head), build(head, deep_supervision=0.5)
    own = {k: v for k, v in deep.state_dict().items() if "auxiliary" not in k}
    plain.load_state_dict(own)
    images, samples = torch.randn(2, 3, 64, 64), with_labels(2, (64, 64))

    assert len(deep.decode_head.auxiliary) == outputs
    assert torch.equal(plain(images, mode="tensor"), deep(images, mode="tensor"))
    without, losses = (m(images, samples, mode="loss") for m in (plain, deep))
    assert set(losses) == {"decode.loss_ce", "decode.loss_ce_aux"}
    assert losses["decode.loss_ce"] == without["decode.loss_ce"]


@pytest.mark.parametrize("head", HEADS)
def test_the_auxiliary_loss_is_the_weighted_mean_over_the_outputs(head):
    model = build(head, deep_supervision=0.5)
    images, samples = torch.randn(2, 3, 64, 64), with_labels(2, (64, 64))
    features = model.extract_feat(images)

    _, outputs = model.decode_head(features, auxiliary=True)
    alone = [model.decode_head.loss_by_feat(output, samples)["loss_ce"] for output in outputs]

    loss = model.decode_head.loss(features, samples, None)["loss_ce_aux"]
    assert loss.item() == pytest.approx(0.5 * sum(alone).item() / len(alone), rel=1e-5)


@pytest.mark.parametrize("head", HEADS)
def test_every_weight_learns_under_deep_supervision(head):
    model = build(head, deep_supervision=0.5).train()

    losses = model(torch.randn(2, 3, 64, 64), with_labels(2, (64, 64)), mode="loss")
    sum(losses.values()).backward()

    assert all(p.grad is not None and p.grad.any() for p in model.decode_head.parameters())


def test_several_losses_are_weighted_and_added_by_name():
    losses = [
        dict(type="CrossEntropyLoss", loss_weight=1.0),
        dict(type="CrossEntropyLoss", loss_weight=2.0),
        dict(type="aicore.DiceLoss", loss_weight=3.0),
    ]
    model, single = build(loss_decode=losses), build()
    images, samples = torch.randn(2, 3, 64, 64), with_labels(2, (64, 64))

    found, alone = (m(images, samples, mode="loss") for m in (model, single))

    assert set(found) == {"decode.loss_ce", "decode.loss_dice"}
    assert found["decode.loss_ce"].item() == pytest.approx(3 * alone["decode.loss_ce"].item())


def test_other_decoder_channels_and_normalisations():
    model = build(decoder_channels=(64, 48, 32, 16, 8), norm_cfg=dict(type="GN", num_groups=4))

    assert model(torch.randn(1, 3, 64, 64), mode="tensor").shape == (1, 4, 64, 64)
    assert model.decode_head.conv_seg.in_channels == 8


@pytest.mark.parametrize("head", HEADS)
def test_the_classifier_begins_as_smps(head):
    model = build(head)
    model.init_weights()
    weight = model.decode_head.conv_seg.weight

    bound = (6 / ((weight.shape[0] + weight.shape[1]) * 9)) ** 0.5  # Glorot and Bengio, 2010
    assert 0.95 * bound < weight.abs().max() <= bound
    assert not model.decode_head.conv_seg.bias.any()


def test_a_config_says_how_the_classifier_begins():
    model = build(init_cfg=dict(type="Constant", val=0.5, override=dict(name="conv_seg")))
    model.init_weights()

    assert (model.decode_head.conv_seg.weight == 0.5).all()


def test_too_few_decoder_channels():
    with pytest.raises(ConfigError, match=r"UNetHead.decoder_channels has 2 values for 5 feature"):
        build(decoder_channels=(64, 32))


def test_a_block_takes_the_size_of_its_skip_features():
    block = DecoderBlock(4, 3, 2, dict(type="BN"))

    assert block(torch.randn(2, 4, 3, 4), torch.randn(2, 3, 5, 8)).shape == (2, 2, 5, 8)
    assert DecoderBlock(4, 0, 2, dict(type="BN"))(torch.randn(2, 4, 3, 4)).shape == (2, 2, 6, 8)


def test_deeplabv3plus_takes_two_levels():
    model = build(
        "aicore.DeepLabV3PlusHead",
        channels=16,
        c1_channels=8,
        dilations=(1, 2),
        out_channels=4,
        backbone=dict(output_stride=8),
    )
    head = model.decode_head

    assert head.c1_bottleneck.conv.in_channels == 32
    assert head.in_channels == 96
    assert head(model.extract_feat(torch.randn(1, 3, 64, 64))).shape == (1, 4, 16, 16)
