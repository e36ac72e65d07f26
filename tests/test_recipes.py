"""CONTRIBUTING.md's recipe is followed in a copy of the code, and what it makes works."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.patience import PATIENCE

ROOT = Path(__file__).resolve().parent.parent
IMPORTS = """
import torch.nn.functional as F
from torch import Tensor

from distillation.objective import Objective, Setup
from transformer.encoder import Collect, EncoderOutput

"""
USE = """
import torch
from distillation.mapping import layer_mapping
from distillation.objective import Setup
from distillation.objectives import make_objectives
from transformer.configuration import EncoderConfig
from transformer.modeling import BertModel

torch.manual_seed(0)
shape = dict(vocab_size=50, hidden_size=12, num_attention_heads=2, intermediate_size=8)
teacher, student = (BertModel(EncoderConfig(num_hidden_layers=n, **shape)) for n in (4, 2))
objectives = make_objectives({"cosine": 2.0}, Setup(mapping=layer_mapping("uniform", 2, 4)))
ids = torch.arange(12).reshape(2, 6)
batch = {"input_ids": ids, "token_type_ids": ids * 0, "attention_mask": ids * 0 + 1}
objectives.attach(teacher.eval())
losses = objectives(student.eval(), batch)
assert losses.by_layer["cosine_loss"].shape == (2,)
assert 0 < losses.total().item() < 8
objectives.attach(student)
same = make_objectives({"cosine": 2.0}, Setup(mapping=layer_mapping("uniform", 2, 2)))
assert abs(same.attach(student)(student, batch).total().item()) < 1e-5
"""


def test_a_new_objective_is_a_class_and_a_line(tmp_path):
    for room in ("distillation", "transformer", "files"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "distillation/objectives/cosine.py").write_text(IMPORTS + code)
    registry = tmp_path / "distillation/objectives/__init__.py"
    line = '    "cosine": HiddenCosine,\n'
    start = "OBJECTIVES: dict[str, type[Objective]] = {\n"
    source = registry.read_text().replace(start, start + line)
    found = "from distillation.objectives.cosine import HiddenCosine\n"
    first = "from distillation.objectives.attention"
    registry.write_text(source.replace(first, found + first))
    done = subprocess.run(
        [sys.executable, "-c", USE], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
