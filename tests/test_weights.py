"""Checkpoints: every published way to name weights is understood, and nothing is made up in silence."""

import io
import json
import os
import pickle
import sys
import zipfile

import pytest
import torch
from safetensors.torch import save_file
from torch.testing import assert_close

from files.errors import UserError, run_script
from transformer.encoder import Collect
from transformer.file_utils import CONFIG_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_NAME
from transformer.modeling import (
    BertForMaskedLM,
    BertForPreTraining,
    BertModel,
    TinyBertForPreTraining,
    TinyBertForSequenceClassification,
)
from transformer.weights import (
    canonical_names,
    load_weights,
    read_weights,
    save_weights,
    write_tensors,
)

QUERY = "bert.encoder.layer.1.attention.self.query.weight"


@pytest.fixture
def folder(tiny_model_dir):
    """A folder with an encoder, pre-training heads and `fit_dense`."""
    return tiny_model_dir("model", TinyBertForPreTraining, fit_size=36)


def read(folder):
    return torch.load(folder / WEIGHTS_NAME)


def rewrite(folder, change, safe=False):
    """Replace the weights of a folder by `change(weights)`."""
    state = change(read(folder))
    if safe:
        (folder / WEIGHTS_NAME).unlink()
        save_file({name: t.contiguous() for name, t in state.items()}, folder / SAFE_WEIGHTS_NAME)
    else:
        torch.save(state, folder / WEIGHTS_NAME)


def reconfigure(folder, **values):
    path = folder / CONFIG_NAME
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def refusal(load, *args, **kwargs):
    """The message a load is refused with."""
    with pytest.raises(UserError) as error:
        load(*args, **kwargs)
    return str(error.value)


# Names


def without_prefix(state):
    return {name.removeprefix("bert."): tensor for name, tensor in state.items()}


def in_wrapper(state):
    return {f"module.{name}": tensor for name, tensor in state.items()}


def in_tensorflow_names(state):
    def old(name):
        for new, before in (("LayerNorm.weight", "gamma"), ("LayerNorm.bias", "beta")):
            if name.endswith(new):
                return name.removesuffix(new) + "LayerNorm." + before
        return name

    return {old(name): tensor for name, tensor in state.items()}


def with_buffers(state):
    return state | {
        "bert.embeddings.position_ids": torch.arange(48)[None],
        "bert.embeddings.token_type_ids": torch.zeros(1, 48, dtype=torch.long),
        "cls.predictions.decoder.weight": state["bert.embeddings.word_embeddings.weight"].clone(),
        "cls.predictions.decoder.bias": state["cls.predictions.bias"].clone(),
    }


def everything_at_once(state):
    return in_wrapper(in_tensorflow_names(without_prefix(with_buffers(state))))


@pytest.mark.parametrize("safe", [False, True], ids=["bin", "safetensors"])
@pytest.mark.parametrize(
    "change",
    [dict, without_prefix, in_wrapper, in_tensorflow_names, with_buffers, everything_at_once],
    ids=lambda function: function.__name__,
)
def test_weights_load_under_every_published_name(folder, change, safe, capsys):
    expected = TinyBertForPreTraining.from_pretrained(folder).state_dict()
    rewrite(folder, change, safe)
    actual = TinyBertForPreTraining.from_pretrained(folder).state_dict()
    assert list(actual) == list(expected)
    assert all(torch.equal(actual[name], expected[name]) for name in expected)
    assert "fresh" not in capsys.readouterr().err


def test_canonical_names_stay_as_they_are(folder):
    state = read(folder)
    assert list(canonical_names(state)) == list(state)


def test_half_precision_weights_become_single(folder):
    rewrite(folder, lambda state: {name: t.half() for name, t in state.items()})
    model = BertModel.from_pretrained(folder)
    assert model.state_dict()[QUERY].dtype == torch.float32
    assert torch.equal(model.state_dict()[QUERY], read(folder)[QUERY].float())


def test_safetensors_are_preferred_where_both_kinds_stand(folder):
    state = read(folder)
    save_file({name: t + 1 for name, t in state.items()}, folder / SAFE_WEIGHTS_NAME)
    assert torch.equal(BertModel.from_pretrained(folder).state_dict()[QUERY], state[QUERY] + 1)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(folder, value):
    def damage(state):
        state[QUERY][0, 0] = value
        return state

    rewrite(folder, damage)
    with pytest.raises(UserError, match=f"{QUERY} holds numbers that are not finite"):
        BertModel.from_pretrained(folder)


def test_heads_of_other_models_are_passed_over(folder):
    rewrite(
        folder,
        lambda s: s | {"qa_outputs.weight": torch.ones(2, 24), "classifier.bias": torch.ones(5)},
    )
    BertModel.from_pretrained(folder)


# fit_dense and fit_denses


def test_width_of_the_projection_is_read_from_the_weights(folder):
    values = json.loads((folder / CONFIG_NAME).read_text())
    del values["fit_size"], values["fit_dense"]
    (folder / CONFIG_NAME).write_text(json.dumps(values))
    model = TinyBertForPreTraining.from_pretrained(folder)
    assert torch.equal(model.fit_dense.weight, read(folder)["fit_dense.weight"])


def test_projections_per_layer_of_the_second_release_are_loaded_and_used(folder, tiny_batch):
    torch.manual_seed(3)
    projections = [(torch.randn(30, 24), torch.randn(30)) for _ in range(3)]

    def second_release(state):
        state = {name: t for name, t in state.items() if not name.startswith("fit_dense.")}
        for i, (weight, bias) in enumerate(projections):
            state |= {f"fit_denses.{i}.weight": weight, f"fit_denses.{i}.bias": bias}
        return state

    rewrite(folder, second_release)
    (folder / CONFIG_NAME).write_text(
        json.dumps(
            {
                name: value
                for name, value in json.loads((folder / CONFIG_NAME).read_text()).items()
                if not name.startswith("fit_")
            }
        )
    )
    model = TinyBertForPreTraining.from_pretrained(folder)
    assert (model.config.fit_dense, model.config.fit_size) == ("per_layer", 30)
    states = Collect.everything(model.config.num_hidden_layers)
    hidden = model.bert(**tiny_batch(), collect=states).hidden
    expected = tuple(h @ w.T + b for h, (w, b) in zip(hidden, projections, strict=True))
    assert_close(model(**tiny_batch(), collect=states).hidden, expected, rtol=1e-5, atol=1e-5)
    model.save_pretrained(folder)
    again = TinyBertForPreTraining.from_pretrained(folder)
    assert_close(again(**tiny_batch(), collect=states).hidden, expected, rtol=1e-5, atol=1e-5)


def test_a_projection_to_another_teachers_width_is_refused(folder):
    message = refusal(TinyBertForPreTraining.from_pretrained, folder, fit_size=48)
    assert "fit_dense.weight has shape [36, 24], the model expects [48, 24]" in message


# What is missing, too much or of the wrong shape


@pytest.mark.parametrize(
    "name",
    [
        QUERY,
        "bert.embeddings.word_embeddings.weight",
        "bert.embeddings.LayerNorm.bias",
        "bert.encoder.layer.0.output.dense.bias",
    ],
)
def test_a_missing_encoder_weight_stops_the_program(folder, name):
    rewrite(folder, lambda state: {key: t for key, t in state.items() if key != name})
    message = refusal(BertModel.from_pretrained, folder)
    assert message.startswith(f"{folder / WEIGHTS_NAME}: {name} is missing")
    assert "random" in message


@pytest.mark.parametrize(
    "name",
    [
        "bert.encoder.layer.2.output.dense.weight",
        "bert.encoder.layer.0.attention.self.distance_embedding.weight",
        "albert.embeddings.word_embeddings.weight",
        "bert.embeddings.other",
    ],
)
def test_an_unexpected_encoder_weight_stops_the_program(folder, name):
    rewrite(folder, lambda state: state | {name: torch.ones(3)})
    message = refusal(BertModel.from_pretrained, folder)
    assert message.startswith(f"{folder / WEIGHTS_NAME}: {name} has no place in this model")


def test_a_config_of_another_depth_stops_the_program(folder):
    reconfigure(folder, num_hidden_layers=3)
    assert "bert.encoder.layer.2.attention" in refusal(BertModel.from_pretrained, folder)
    reconfigure(folder, num_hidden_layers=1)
    assert "bert.encoder.layer.1.attention" in refusal(BertModel.from_pretrained, folder)


@pytest.mark.parametrize(
    "values, name, shapes",
    [
        ({"vocab_size": 201}, "bert.embeddings.word_embeddings.weight", ([200, 24], [201, 24])),
        ({"intermediate_size": 41}, "bert.encoder.layer.0.intermediate.dense.weight", ([40, 24], [41, 24])),
        ({"max_position_embeddings": 9}, "bert.embeddings.position_embeddings.weight", ([48, 24], [9, 24])),
        ({"type_vocab_size": 3}, "bert.embeddings.token_type_embeddings.weight", ([2, 24], [3, 24])),
    ],
)  # fmt: skip
def test_wrong_sizes_are_refused_with_key_both_shapes_and_file(folder, values, name, shapes):
    reconfigure(folder, **values)
    message = refusal(BertModel.from_pretrained, folder)
    assert message.startswith(
        f"{folder / WEIGHTS_NAME}: {name} has shape {shapes[0]}, the model expects {shapes[1]}"
    )


def test_a_classifier_of_another_number_of_classes_is_refused(tiny_model_dir):
    folder = tiny_model_dir("model", TinyBertForSequenceClassification, id2label=["a", "b", "c"])
    reconfigure(folder, id2label={"0": "a", "1": "b"})
    message = refusal(TinyBertForSequenceClassification.from_pretrained, folder)
    assert "classifier.weight has shape [3, 24], the model expects [2, 24]" in message


@pytest.mark.parametrize("change", [dict, without_prefix], ids=["bert.", "bare"])
def test_a_language_model_without_its_head_is_refused(tiny_model_dir, change):
    folder = tiny_model_dir("encoder", BertModel)
    rewrite(folder, change)
    message = refusal(BertForMaskedLM.from_pretrained, folder)
    assert message.startswith(f"{folder / WEIGHTS_NAME}: cls.predictions.")
    assert "is missing" in message


def test_pretraining_heads_are_refused_where_one_is_missing(tiny_model_dir):
    folder = tiny_model_dir("masked", BertForMaskedLM)
    message = refusal(BertForPreTraining.from_pretrained, folder)
    assert "cls.seq_relationship.weight is missing" in message


def test_a_classifier_without_its_head_is_refused_unless_allowed(tiny_model_dir, capsys):
    folder = tiny_model_dir("encoder", BertModel)
    load = TinyBertForSequenceClassification.from_pretrained
    assert "classifier.weight is missing" in refusal(load, folder)
    model = load(folder, may_init=("classifier.",))
    assert torch.equal(model.state_dict()[QUERY], read(folder)[QUERY])
    assert (
        f"{folder / WEIGHTS_NAME} has no classifier: starting from fresh" in capsys.readouterr().err
    )


# Files that are torn, hostile or something else


def poison(path):
    """Write a pickle that leaves a trace if it is executed."""
    trace = path.with_name("executed")

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(trace),)

    with path.open("wb") as file:
        pickle.dump({"bert.embeddings.word_embeddings.weight": Bomb()}, file, protocol=2)
    return trace


def zipped_poison(path):
    trace = path.with_name("executed")

    class Bomb:
        def __reduce__(self):
            return os.mkdir, (str(trace),)

    torch.save({"x": Bomb()}, path)
    return trace


@pytest.mark.parametrize("write", [poison, zipped_poison], ids=["pickle", "torch"])
def test_code_in_a_weights_file_is_refused_and_not_run(folder, write):
    trace = write(folder / WEIGHTS_NAME)
    message = refusal(BertModel.from_pretrained, folder)
    assert message.startswith(f"{folder / WEIGHTS_NAME}: cannot be read as weights")
    assert not trace.exists()


@pytest.mark.parametrize("safe", [False, True], ids=["bin", "safetensors"])
@pytest.mark.parametrize("keep", [0, 1, 7, 100, 0.5, -1], ids=str)
def test_a_torn_file_is_named(folder, keep, safe):
    rewrite(folder, dict, safe)
    path = folder / (SAFE_WEIGHTS_NAME if safe else WEIGHTS_NAME)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep) if keep == 0.5 else keep])
    assert refusal(BertModel.from_pretrained, folder).startswith(f"{path}: cannot be read")


@pytest.mark.parametrize(
    "content",
    [torch.ones(3), [torch.ones(3)], {"step": 3}, {0: torch.ones(3)}, {"a": {"b": torch.ones(1)}}],
    ids=["tensor", "list", "number", "numbered", "nested"],
)
def test_a_file_of_anything_but_named_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / WEIGHTS_NAME)
    assert "expected a plain table of named tensors" in refusal(
        read_weights, tmp_path / WEIGHTS_NAME
    )


def test_a_web_page_in_place_of_weights_is_refused(tmp_path):
    for name in (WEIGHTS_NAME, SAFE_WEIGHTS_NAME):
        (tmp_path / name).write_text("<!doctype html><title>404</title>")
        assert "cannot be read as weights" in refusal(read_weights, tmp_path / name)


def test_two_weights_of_one_name_are_refused(folder):
    """Such as a file saved twice over, with and without the prefix: which one counts?"""
    rewrite(folder, lambda state: state | {QUERY.removeprefix("bert."): state[QUERY] + 1})
    message = refusal(BertModel.from_pretrained, folder)
    assert message.startswith(f"{folder / WEIGHTS_NAME}: ") and QUERY in message


def test_a_missing_file_is_named(tmp_path):
    message = refusal(read_weights, tmp_path / WEIGHTS_NAME)
    assert message.startswith(f"{tmp_path / WEIGHTS_NAME}: no such file")


def test_the_user_sees_one_line_and_status_2(folder, capsys):
    (folder / WEIGHTS_NAME).write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(SystemExit) as exit_:
        run_script(lambda: BertModel.from_pretrained(folder))
    printed = capsys.readouterr().err
    assert exit_.value.code == 2
    assert printed.startswith("error: ") and printed.count("\n") == 1 and len(printed) < 500


def test_weights_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "deep" / WEIGHTS_NAME
    save_weights({"a": torch.arange(6).reshape(2, 3).T}, path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sys.modules["transformer.weights"].torch, "save", full)
    with pytest.raises(OSError):
        save_weights({"a": torch.zeros(3)}, path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [WEIGHTS_NAME]


def test_a_head_that_is_not_read_may_have_a_projection_of_its_own(tiny_config, randomised):
    """Only what uses the language-model head would be wrong with the word embeddings in its place."""
    state = randomised(BertForPreTraining(tiny_config())).state_dict()
    other = state["bert.embeddings.word_embeddings.weight"] + 1
    state = canonical_names(state | {"cls.predictions.decoder.weight": other})
    load_weights(BertModel(tiny_config()), state, "file", may_init=())
    with pytest.raises(UserError, match="decoder.weight differs from bert.embeddings"):
        load_weights(BertForMaskedLM(tiny_config()), state, "file", may_init=())


def test_a_bias_under_the_decoders_name_is_the_heads(tiny_config, randomised):
    state = dict(randomised(BertForMaskedLM(tiny_config())).state_dict())
    bias = state.pop("cls.predictions.bias")
    state = canonical_names(state | {"cls.predictions.decoder.bias": bias})
    assert torch.equal(state["cls.predictions.bias"], bias)
    assert "cls.predictions.decoder.bias" not in state


def test_a_flipped_bit_in_a_weights_file_is_noticed(tmp_path):
    path = tmp_path / "pytorch_model.bin"
    save_weights({"bert.x": torch.arange(100.0)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(100.0).numpy().tobytes()) + 9] ^= 8
    path.write_bytes(content)
    with pytest.raises(UserError, match="pytorch_model.bin: cannot be read as weights.*checksum"):
        read_weights(path)


def test_a_compressed_weights_file_is_refused(tmp_path):
    """torch compresses nothing; a small file that unpacks to a huge one would fill the memory."""
    path = tmp_path / "pytorch_model.bin"
    save_weights({"bert.x": torch.zeros(1000)}, path)
    with zipfile.ZipFile(path) as stored:
        parts = {part: stored.read(part) for part in stored.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in parts.items():
            packed.writestr(name, content)
    with pytest.raises(UserError, match="cannot be read as weights.*compressed"):
        read_weights(path)


def test_a_full_disk_is_the_disks_fault_whatever_torch_says_of_it(tmp_path):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_tensors({"x": torch.zeros(10)}, Full())
