import pytest
import torch
from torch import nn

from aicore.anomaly.folding import fold_batch_norms
from aicore.backbones import TimmBackbone


def trained(network: nn.Module) -> nn.Module:
    """Batch norms with statistics of their own, as after a training."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.bias.data):
                values.copy_(torch.randn(values.shape, generator=generator) / 4)
            for values in (module.running_var, module.weight.data):
                values.copy_(torch.rand(values.shape, generator=generator) + 0.5)
    return network.eval().requires_grad_(False)


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "efficientnet_b0", "mobilenetv3_small_100"]
)
def test_the_maps_are_the_same_without_batch_norms(name):
    torch.manual_seed(0)
    network = trained(TimmBackbone(name, out_indices=(1, 2, 3)))
    before = {key: value.clone() for key, value in network.state_dict().items()}

    folded = fold_batch_norms(network, torch.randn(1, 3, 64, 64))

    assert norms(folded) == 0
    images = torch.randn(2, 3, 96, 64)
    for new, old in zip(folded(images), network(images), strict=True):
        torch.testing.assert_close(new, old, rtol=1e-3, atol=1e-4 * float(old.abs().max()))
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in folded.modules())


class TwoReaders(nn.Module):
    """The batch norm is not alone in reading what the convolution computes."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        features = self.convolution(images)
        return self.norm(features), features


def test_a_network_that_would_compute_something_else_stays_as_it_is():
    network = trained(TwoReaders())

    assert fold_batch_norms(network, torch.randn(1, 3, 8, 8)) is network


def test_a_network_without_batch_norms():
    network = TimmBackbone("convnext_atto", out_indices=(0, 1)).eval()
    images = torch.randn(1, 3, 64, 64)

    for new, old in zip(fold_batch_norms(network, images)(images), network(images), strict=True):
        torch.testing.assert_close(new, old, rtol=0, atol=0)
