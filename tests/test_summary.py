"""What a training script says it will do, before it does it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cli.plan import show_plan
from corpus.token_store import TokenStore
from distillation.state import TrainingSettings


@pytest.mark.parametrize(
    "counts, max_steps, told",
    [
        ([304, 304, 304], None, "912 of 32 rows, 3 epochs of 304"),
        ([302, 306, 304], None, "912 of 32 rows, 3 epochs of 302 to 306"),
        ([1302], None, "1,302 of 32 rows, 1 epoch of 1,302"),
        ([302, 306], 9, "9 of 32 rows, by --max_steps; an epoch has 302 to 306"),
    ],
)
def test_epochs_of_different_sizes_are_told_as_they_are(capsys, counts, max_steps, told):
    store = TokenStore(np.zeros(7, np.uint16), np.array([0, 3, 7]), np.zeros(2, np.uint16))
    source = SimpleNamespace(count=counts.__getitem__, store=lambda epoch: store)
    model = torch.nn.Module()
    model.bert = torch.nn.Linear(2, 2)
    show_plan(
        "general distillation",
        {},
        SimpleNamespace(train_batch_size=32, output_dir="out"),
        model,
        source,
        TrainingSettings(epochs=len(counts), learning_rate=1e-4, max_steps=max_steps),
        SimpleNamespace(is_main=True, world=1, device=torch.device("cpu")),
    )
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines if line.startswith("  steps")] == [told]
