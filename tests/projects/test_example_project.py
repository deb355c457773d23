from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aicore.apis import train

CONFIG = Path(__file__).parents[2] / "projects/example_project/configs/resnet18_cosine_sample.py"
TINY = {
    "sample_data": None,
    "classes": None,
    "image_size": 32,
    "batch_size": 8,
    "num_workers": 0,
    "max_epochs": 2,
}


@pytest.fixture(scope="module")
def runner(class_folders, tmp_path_factory):
    options = {**TINY, "data_root": str(class_folders)}
    return train(CONFIG, tmp_path_factory.mktemp("project"), options=options)


def test_the_project_trains_with_its_head_and_its_hook(runner):
    assert type(runner.model.head).__name__ == "CosineHead"
    assert any(type(hook).__name__ == "FreezeBackboneHook" for hook in runner.hooks)
    assert runner.message_hub.get_info("best_score") > 100 / 3


def test_the_head_scores_directions_not_lengths(runner):
    head = runner.model.head
    features = torch.randn(4, 512)
    cosine = torch.nn.functional.cosine_similarity(features[:, None], head.directions, dim=2)
    torch.testing.assert_close(head((features,)), head.scale * cosine)
    torch.testing.assert_close(head((features * 7,)), head((features,)))


def test_the_hook_is_a_pure_function_of_the_epoch(runner):
    hook = next(h for h in runner.hooks if type(h).__name__ == "FreezeBackboneHook")
    for epoch, learns in ((0, False), (1, True), (0, False), (5, True)):
        runner.train_loop._epoch = epoch
        hook.before_train_epoch(runner)
        assert {p.requires_grad for p in runner.model.backbone.parameters()} == {learns}
        assert all(p.requires_grad for p in runner.model.head.parameters())
