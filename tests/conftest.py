"""Small things many tests need: a vocabulary of 200 tokens and models of a few thousand weights."""

import shutil

import pytest
import torch

from files.resumable import Unfinished
from transformer.configuration import BertConfig
from transformer.file_utils import VOCAB_NAME
from transformer.modeling import BertModel, TinyBertForSequenceClassification


def pytest_collection_modifyitems(items):
    """Tests marked `gpu` are skipped where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    """Every device at hand, one after another."""
    return torch.device(request.param)


LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = """
    the a an is are was not no and or but of in on at to with from by for it this that these
    man woman child dog cat bird tree house river stone book song film good bad great dull small old
    young red blue green sees likes reads runs sings eats finds makes never always often very quite
"""


@pytest.fixture(scope="session")
def tiny_vocab(tmp_path_factory):
    """The path of an uncased vocabulary of 200 tokens that can spell any lower-case English word."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *".,!?'-0123456789"]
    vocabulary += [*LETTERS, *(f"##{letter}" for letter in LETTERS)]
    vocabulary += dict.fromkeys(word for word in WORDS.split() if word not in LETTERS)
    vocabulary += [f"[unused{i}]" for i in range(200 - len(vocabulary))]
    path = tmp_path_factory.mktemp("vocabulary") / VOCAB_NAME
    path.write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_config():
    """A function making a config of a few thousand weights; any field may be set."""

    def make(**fields):
        sizes = {
            "vocab_size": 200,
            "hidden_size": 24,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 40,
            "max_position_embeddings": 48,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }
        return BertConfig(**{**sizes, **fields})

    return make


@pytest.fixture(scope="session")
def randomised():
    """A function giving every weight of a model a value that matters, biases and LayerNorm included."""

    def randomise(model, seed=0):
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, p in model.named_parameters():
                middle = 1.0 if name.endswith("LayerNorm.weight") else 0.0
                p.copy_(middle + 0.15 * torch.randn(p.shape, generator=generator))
        return model.eval()

    return randomise


@pytest.fixture
def tiny_model_dir(tmp_path, tiny_vocab, tiny_config, randomised):
    """A function writing a complete folder of a random tiny model and returning its path."""

    def make(name, model_class=BertModel, seed=0, **fields):
        folder = tmp_path / name
        randomised(model_class(tiny_config(**fields)), seed).save_pretrained(folder)
        shutil.copy(tiny_vocab, folder / VOCAB_NAME)
        return folder

    return make


@pytest.fixture(scope="session")
def tiny_batch():
    """A function making a batch of padded pairs: input_ids, token_type_ids and attention_mask, [5, L]."""

    def make(vocab_size=200, length=17, seed=0):
        generator = torch.Generator().manual_seed(seed)
        lengths = torch.tensor([[length], [1], [length - 1], [length // 2], [2]])
        columns = torch.arange(length)
        mask = (columns < lengths).long()
        ids = torch.randint(5, vocab_size, (5, length), generator=generator) * mask
        segments = (columns >= lengths // 2).long() * mask
        return {"input_ids": ids, "token_type_ids": segments, "attention_mask": mask}

    return make


@pytest.fixture
def make_model(tiny_config, randomised):
    """A function making a random tiny classifier; any field of its config may be set."""

    def make(seed=0, **fields):
        config = tiny_config(**fields)
        return randomised(TinyBertForSequenceClassification(config), seed)

    return make


@pytest.fixture
def stopped_after(monkeypatch):
    """A function that runs a program, stops it like SIGTERM after some writes, and says whether it had to.

    What a program has written is safe after each write then, not only every ten seconds.
    """
    monkeypatch.setattr("files.resumable.SECONDS", 0)
    write = Unfinished.write

    def run(writes, program):
        left = iter(range(writes))

        def stopping_write(file, data):
            if next(left, None) is None:
                raise SystemExit(143)
            write(file, data)

        with monkeypatch.context() as patch:
            patch.setattr(Unfinished, "write", stopping_write)
            try:
                program()
            except SystemExit as stop:
                return stop.code == 143
        return False

    return run
