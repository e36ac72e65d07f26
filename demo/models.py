"""The demo's models before any training: a learned WordPiece vocabulary and three configurations."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from pathlib import Path

from files.atomic import atomic_open
from transformer.file_utils import CONFIG_NAME, VOCAB_NAME

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# The teacher has 6 layers, grown from 3 while it is pre-trained (reproduction.sh, stage models). As in the
# paper, one student keeps every third layer and is narrower, the other every second and is as wide; all
# have as many heads. They stand for BERT-base and the 4- and the 6-layer TinyBERT, whose names they carry.
SHAPES = {
    "bert-base-config": {"num_hidden_layers": 3, "hidden_size": 96, "intermediate_size": 192},
    "tinybert_4l_config": {"num_hidden_layers": 2, "hidden_size": 48, "intermediate_size": 192},
    "tinybert_6l_config": {"num_hidden_layers": 3, "hidden_size": 96, "intermediate_size": 192},
}
HEADS = 4


def learn_vocabulary(texts: Iterable[str], size: int) -> list[str]:
    """At most `size` lower-case WordPieces learned from the texts, special tokens first."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # Every character stands in the vocabulary, at the head of a word and inside one, so that no word is
    # unknown. Named beforehand, in this order: numbered as they are met, they would break ties between
    # merges differently from run to run.
    inside = [f"##{character}" for character in string.ascii_lowercase + string.digits]
    trainer = trainers.WordPieceTrainer(
        vocab_size=size,
        special_tokens=SPECIAL_TOKENS + inside,
        initial_alphabet=[*string.ascii_lowercase, *string.digits, *string.punctuation],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)


def configuration(name: str, vocabulary_size: int) -> dict:
    """config.json of one of `SHAPES`."""
    return {
        "model_type": "bert",
        "architectures": ["BertForMaskedLM"],
        **SHAPES[name],
        "num_attention_heads": HEADS,
        "hidden_act": "gelu",
        # So small a model underfits as it is; and at this width BERT's 0.02 starts too near to zero.
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.05,
        "layer_norm_eps": 1e-12,
        "max_position_embeddings": 128,
        "type_vocab_size": 2,
        "pad_token_id": SPECIAL_TOKENS.index("[PAD]"),
        "vocab_size": vocabulary_size,
    }


def write_models(folder: Path, vocabulary: list[str]) -> None:
    """Write config.json, vocab.txt and tokenizer_config.json of the teacher and of both students."""
    tokenizer = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": True,
        "model_max_length": 128,
    }
    for name in SHAPES:
        with atomic_open(folder / name / VOCAB_NAME) as file:
            file.writelines(f"{token}\n" for token in vocabulary)
        files = {
            CONFIG_NAME: configuration(name, len(vocabulary)),
            "tokenizer_config.json": tokenizer,
        }
        for file_name, content in files.items():
            with atomic_open(folder / name / file_name) as file:
                file.write(json.dumps(content, indent=2, sort_keys=True) + "\n")


def write_distilbert(folder: Path) -> Path:
    """Write the config.json of a DistilBERT half as deep as the teacher; return its folder."""
    teacher = json.loads((folder / "bert-base-config" / CONFIG_NAME).read_bytes())
    shape = SHAPES["tinybert_6l_config"]
    content = {
        "model_type": "distilbert",
        "architectures": ["DistilBertForMaskedLM"],
        "dim": shape["hidden_size"],
        "n_layers": shape["num_hidden_layers"],
        "n_heads": HEADS,
        "hidden_dim": shape["intermediate_size"],
        "activation": "gelu",
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "seq_classif_dropout": 0.0,
        **{
            name: teacher[name]
            for name in ("initializer_range", "max_position_embeddings", "vocab_size")
        },
    }
    path = folder / "distilbert_config" / CONFIG_NAME
    with atomic_open(path) as file:
        file.write(json.dumps(content, indent=2, sort_keys=True) + "\n")
    return path.parent
