"""CONTRIBUTING.md's recipes are followed in a copy of the code, and what they make works."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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


USE_TASK = """
from pathlib import Path
from tasks.glue import find_task
from tasks.task import read_split

Path("train.tsv").write_text("passage\\tidx\\tquestion\\tlabel\\nIt rains.\\t0\\tis it dry\\tfalse\\n")
rows = read_split(find_task("BoolQ"), ".", "train")
assert (rows.text_a, rows.text_b, rows.labels.tolist()) == (["is it dry"], ["It rains."], [0])
"""
USE_FAMILY = """
import torch
import transformers
from transformer.encoder import Collect
from transformer.modeling import TinyBertForSequenceClassification

sizes = dict(vocab_size=60, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=40,
             max_position_embeddings=20, type_vocab_size=1)
config = transformers.XLMRobertaConfig(**sizes, attn_implementation="eager")
torch.manual_seed(0)
theirs = transformers.XLMRobertaForSequenceClassification(config).eval()
theirs.save_pretrained("theirs")
ours = TinyBertForSequenceClassification.from_pretrained("theirs").eval()
ours.save_pretrained("ours")
again = transformers.XLMRobertaForSequenceClassification.from_pretrained("ours").eval()
ids = torch.arange(5, 25).reshape(2, 10)
mask = torch.ones_like(ids)
mask[1, 6:] = 0
ids[mask == 0] = 1
with torch.no_grad():
    out = ours(input_ids=ids, attention_mask=mask, collect=Collect(hidden=(0, 1, 2)))
    for model in (theirs, again):
        expected = model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        torch.testing.assert_close(out.output, expected.logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(out.hidden, expected.hidden_states, rtol=0, atol=1e-5)
"""


def recipe(title: str) -> list[str]:
    """The code of a recipe of CONTRIBUTING.md."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (section,) = (part for part in text.split("\n## ") if part.startswith(title))
    return re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)


def follow(folder: Path, file: str, start: str, added: str) -> None:
    """Put code after the line `start` of a file."""
    path = folder / file
    source = path.read_text(encoding="utf-8")
    assert source.count(start) == 1
    path.write_text(source.replace(start, start + added), encoding="utf-8")


def check(folder: Path, code: str) -> None:
    """Run code in the copy, which has to end well."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def copy(tmp_path):
    """A copy of the rooms."""
    for room in ("distillation", "tasks", "corpus", "transformer", "files"):
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_a_new_objective_is_a_class_and_a_line(copy):
    (code,) = recipe("A new objective")
    (copy / "distillation/objectives/cosine.py").write_text(IMPORTS + code)
    registry, first = "distillation/objectives/__init__.py", "from __future__ import annotations\n"
    follow(
        copy, registry, "OBJECTIVES: dict[str, type[Objective]] = {\n", '"cosine": LayerCosine,\n'
    )
    follow(copy, registry, first, "from distillation.objectives.cosine import LayerCosine\n")
    check(copy, USE)


def test_a_new_task_is_an_entry(copy):
    (entry,) = recipe("A new task")
    follow(
        copy,
        "tasks/glue.py",
        "    for task in (\n",
        entry.rstrip().removesuffix("  # fmt: skip") + ",\n",
    )
    check(copy, USE_TASK)


def test_a_new_family_is_two_entries_and_equals_transformers(copy):
    family, names = recipe("A new family of encoders")
    follow(copy, "transformer/configuration.py", "keys=_DISTILBERT_KEYS,\n    ),\n}\n", family)
    follow(
        copy,
        "transformer/names.py",
        '(".output_layer_norm.", ".output.LayerNorm."),\n    ),\n}\n',
        names,
    )
    check(copy, USE_FAMILY)
