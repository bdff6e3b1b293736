"""Inside `inference` nothing is learned; afterwards the model is as it was."""

import pytest
import torch
from torch import nn

from transformer_lessons.model.inference import inference


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_comes_back(training):
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5)).train(training)
    with inference(model):
        assert not model.training
        assert not model[1].training
        assert not model(torch.ones(1, 2)).requires_grad
    assert model.training is model[1].training is training
    assert model(torch.ones(1, 2)).requires_grad


def test_the_mode_comes_back_after_an_error():
    model = nn.Dropout(0.5).train()
    with pytest.raises(ZeroDivisionError), inference(model):
        _ = 1 / 0
    assert model.training
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
