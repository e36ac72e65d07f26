"""What a recorder of GPU work does that needs no GPU to be shown."""

import weakref

import pytest
import torch

from distillation.cuda_graphs import CudaGraphs

CPU = torch.device("cpu")


@pytest.fixture
def recorder(monkeypatch):
    """A recorder whose attempts run out of memory; lists the tensors they had made by then."""
    made = []

    def record(self, work, inputs):
        activations = torch.zeros(10)
        made.append(weakref.ref(activations))
        raise torch.OutOfMemoryError("out of memory\nmore about it")

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(CudaGraphs, "_record", record)
    recorder = CudaGraphs(CPU)
    recorder.made = made
    return recorder


def test_what_an_attempt_to_record_held_is_free_when_the_work_is_done_plainly(recorder, capsys):
    def work(inputs):
        return [tensor() for tensor in recorder.made], inputs["share"]

    found = [recorder("work", work, {"share": share}) for share in (0.25, 0.5, 0.75)]
    assert found == [([], 0.25), ([None], 0.5), ([None], 0.75)]
    assert not recorder.enabled
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("launched kernel by kernel from here on: out of memory")
