"""transformers → ours → transformers: what goes through keeps its logits, in every form of file."""

import json
import shutil

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import save_file
from torch.testing import assert_close

from cli.augmentation import language_model
from cli.training import check_vocabulary
from files.errors import UserError
from transformer import modeling
from transformer.encoder import Collect
from transformer.file_utils import CONFIG_NAME, SAFE_WEIGHTS_NAME, VOCAB_NAME, WEIGHTS_NAME
from transformer.modeling import BertForMaskedLM, BertModel, TinyBertForSequenceClassification
from transformer.tokenization import BertTokenizer
from transformer.weights import read_weights, weights_files

SIZES = {
    "vocab_size": 200,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 48,
}
FORMS = ["bin", "safetensors", "sharded bin", "sharded safetensors"]
INDEX = SAFE_WEIGHTS_NAME + ".index.json"
KINDS = {  # our class -> theirs
    "BertModel": "BertModel",
    "BertForMaskedLM": "BertForMaskedLM",
    "BertForPreTraining": "BertForPreTraining",
    "TinyBertForSequenceClassification": "BertForSequenceClassification",
}


@pytest.fixture(autouse=True)
def modules_of_its_own(tmp_path, monkeypatch):
    """Classes beside models are not left in the user's cache."""
    place = str(tmp_path / "modules")
    monkeypatch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", place)


def write_weights(state, folder, form):
    """Replace the weights of a folder by `state`, in one of FORMS."""
    for old in (*folder.glob("*.bin"), *folder.glob("*.safetensors"), *folder.glob("*.index.json")):
        old.unlink()
    safe = form.endswith("safetensors")
    name = SAFE_WEIGHTS_NAME if safe else WEIGHTS_NAME
    write = save_file if safe else torch.save
    state = {key: value.detach().clone().contiguous() for key, value in state.items()}
    if not form.startswith("sharded"):
        return write(state, folder / name)
    stem, ending = name.split(".")
    keys, where = sorted(state), {}
    for number in range(3):
        shard = f"{stem}-{number + 1:05}-of-00003.{ending}"
        where |= dict.fromkeys(keys[number::3], shard)
        write({key: state[key] for key in keys[number::3]}, folder / shard)
    total = sum(value.nbytes for value in state.values())
    index = {"metadata": {"total_size": total}, "weight_map": where}
    (folder / f"{name}.index.json").write_text(json.dumps(index))


def theirs_of(name, randomised, **fields):
    config = transformers.BertConfig(**SIZES | fields)
    return randomised(getattr(transformers, name)(config), 1)


def outputs(model, batch):
    """The tensors that a model of theirs or of ours answers with."""
    wanted = {}
    if isinstance(model, modeling.BertModel):
        wanted["collect"] = Collect(hidden=(model.config.num_hidden_layers,))
    with torch.no_grad():
        out = model(**batch, **wanted)
    if isinstance(out, torch.Tensor):
        return [out]
    if wanted:
        return [out.hidden[0], out.output]
    if isinstance(model, modeling.BertPreTrainedModel):
        return list(out) if isinstance(model, modeling.BertForPreTraining) else [out.output]
    return list(out.values())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", KINDS)
def test_there_and_back_in_every_form(name, form, tmp_path, tiny_batch, randomised):
    fields = {"num_labels": 3} if "Classification" in name else {}
    theirs = theirs_of(KINDS[name], randomised, **fields)
    theirs.save_pretrained(tmp_path / "theirs")
    write_weights(theirs.state_dict(), tmp_path / "theirs", form)
    ours = getattr(modeling, name).from_pretrained(tmp_path / "theirs")
    expected = outputs(theirs, tiny_batch())
    assert_close(outputs(ours, tiny_batch()), expected, rtol=0, atol=1e-5)
    ours.save_pretrained(tmp_path / "ours")
    again, told = getattr(transformers, KINDS[name]).from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not told["missing_keys"] and not told["mismatched_keys"]
    assert_close(outputs(again.eval(), tiny_batch()), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("head", ["tinybert", "hf"])
def test_a_student_with_its_projection_keeps_logits_out_and_in(
    head, form, tiny_model_dir, tmp_path, tiny_batch
):
    """Ours → transformers (by our class, where the head is ours) → ours."""
    fields = {"classifier_head": head, "id2label": ["a", "b", "c"], "fit_size": 32}
    folder = tiny_model_dir("student", TinyBertForSequenceClassification, **fields)
    ours = TinyBertForSequenceClassification.from_pretrained(folder)
    expected = outputs(ours, tiny_batch())
    write_weights(ours.state_dict(), folder, form)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(
        folder, trust_remote_code=True
    ).eval()
    assert_close(outputs(theirs, tiny_batch()), expected, rtol=0, atol=1e-5)
    theirs.save_pretrained(tmp_path / "again", max_shard_size="4KB")
    assert (tmp_path / "again" / INDEX).is_file()
    again = TinyBertForSequenceClassification.from_pretrained(tmp_path / "again")
    assert (again.config.classifier_head, again.config.fit_size) == (head, None)
    assert_close(outputs(again, tiny_batch()), expected, rtol=0, atol=1e-5)


def test_a_folder_of_ours_saved_by_their_own_class_has_their_head(
    tiny_model_dir, tmp_path, tiny_batch
):
    folder = tiny_model_dir("ours", TinyBertForSequenceClassification, id2label=["no", "yes"])
    theirs = transformers.BertForSequenceClassification.from_pretrained(folder).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    assert (
        json.loads((tmp_path / "theirs" / CONFIG_NAME).read_text())["classifier_head"] == "tinybert"
    )
    ours = TinyBertForSequenceClassification.from_pretrained(tmp_path / "theirs")
    assert ours.config.classifier_head == "hf"
    assert_close(outputs(ours, tiny_batch()), outputs(theirs, tiny_batch()), rtol=0, atol=1e-5)


# Shards


@pytest.fixture
def sharded(tiny_model_dir):
    """A folder with three shards and their index, and its state."""
    folder = tiny_model_dir("model", BertForMaskedLM)
    state = read_weights(folder / WEIGHTS_NAME)
    write_weights(state, folder, "sharded safetensors")
    return folder, state


def change_index(folder, change):
    index = json.loads((folder / INDEX).read_text())
    change(index)
    (folder / INDEX).write_text(json.dumps(index))


def refusal(folder):
    with pytest.raises(UserError) as error:
        BertForMaskedLM.from_pretrained(folder)
    return str(error.value)


def test_files_of_a_sharded_model_are_the_index_and_its_shards(sharded):
    folder, state = sharded
    shards = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    assert [path.name for path in weights_files(folder)] == [INDEX, *shards]
    change_index(folder, lambda index: index.pop("metadata"))
    loaded = read_weights(folder / INDEX)
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


def test_a_missing_shard_is_named(sharded):
    folder, _ = sharded
    (folder / "model-00002-of-00003.safetensors").unlink()
    told = refusal(folder)
    assert told.startswith(f"{folder / 'model-00002-of-00003.safetensors'}: no such file")
    assert INDEX in told


@pytest.mark.parametrize(
    "name",
    ["../model-1.safetensors", "/etc/x.bin", "a/../../x.bin", "c:\\x.bin", "..\\x.bin", "", "x.pkl", 3],
)  # fmt: skip
def test_a_shard_outside_the_folder_is_refused(sharded, name):
    folder, _ = sharded
    change_index(folder, lambda index: index["weight_map"].update({"bert.x": name}))
    told = refusal(folder)
    assert told.startswith(f"{folder / INDEX}: ") and "expected" in told


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {}}', "{", ""]
)
def test_an_index_that_is_none_is_refused(sharded, content):
    folder, _ = sharded
    (folder / INDEX).write_text(content)
    assert refusal(folder).startswith(f"{folder / INDEX}: ")


def test_shards_that_do_not_hold_what_the_index_says_are_refused(sharded):
    folder, state = sharded
    first = "model-00001-of-00003.safetensors"
    change_index(folder, lambda index: index["metadata"].update(total_size=12))
    assert "its shards hold" in refusal(folder) and "it says 12" in refusal(folder)
    change_index(folder, lambda index: index["weight_map"].update({"bert.x": first}))
    assert f"{first}: lacks bert.x" in refusal(folder)
    save_file({**state, "bert.y": torch.ones(1)}, folder / first)
    change_index(folder, lambda index: index["weight_map"].pop("bert.x"))
    assert f"{first}: also holds" in refusal(folder)


def test_an_adapter_without_its_model_is_named(tmp_path, tiny_config):
    tiny_config().to_json_file(tmp_path / CONFIG_NAME, "BertModel")
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(UserError, match="holds an adapter"):
        BertModel.from_pretrained(tmp_path)


# Padded vocabularies


def padded(folder, rows):
    """The masked language model in `folder`, its embeddings padded to `rows` by transformers."""
    theirs = transformers.BertForMaskedLM.from_pretrained(folder)
    theirs.resize_token_embeddings(rows, mean_resizing=False)
    theirs.eval().save_pretrained(folder.parent / "padded")
    shutil.copy(folder / VOCAB_NAME, folder.parent / "padded")
    (folder / WEIGHTS_NAME).unlink()
    return theirs, folder.parent / "padded"


def test_a_padded_vocabulary_goes_through_with_its_rows(
    tiny_model_dir, tiny_batch, tmp_path, capsys
):
    theirs, folder = padded(tiny_model_dir("model", BertForMaskedLM), 208)
    ours = BertForMaskedLM.from_pretrained(folder)
    check_vocabulary(BertTokenizer.from_pretrained(folder), ours.config, folder)
    assert "208 word embeddings for 200 tokens; the last 8 are treated as padding" in (
        capsys.readouterr().err
    )
    expected = outputs(theirs, tiny_batch())
    assert_close(outputs(ours, tiny_batch()), expected, rtol=0, atol=1e-5)
    ours.save_pretrained(tmp_path / "again")
    again = transformers.BertForMaskedLM.from_pretrained(tmp_path / "again").eval()
    assert_close(outputs(again, tiny_batch()), expected, rtol=0, atol=1e-5)


def test_rows_without_a_token_are_never_a_replacement(tiny_model_dir):
    _, folder = padded(tiny_model_dir("model", BertForMaskedLM), 208)
    model = BertForMaskedLM.from_pretrained(folder)
    with torch.no_grad():
        model.cls.predictions.bias[200:] = 1e4
    predict = language_model(model, np.arange(200) > 5, bf16=False)
    ids = np.full((1, 4), 9)
    _, found = predict(ids, ids * 0, ids * 0 + 1, np.array([1]), 10)
    assert found.max() < 200 and found.min() > 5


@pytest.mark.parametrize("rows, refused", [(199, True), (200, False), (1224, False), (1225, True)])
def test_only_so_many_rows_count_as_padding(tiny_config, tiny_vocab, rows, refused):
    tokenizer, config = BertTokenizer(tiny_vocab), tiny_config(vocab_size=rows)
    if not refused:
        return check_vocabulary(tokenizer, config, tiny_vocab.parent)
    with pytest.raises(UserError, match=f"{rows} word embeddings, the vocabulary 200 tokens"):
        check_vocabulary(tokenizer, config, tiny_vocab.parent)


def test_a_bias_that_was_not_padded_is_padded_with_zeros_as_theirs(tiny_model_dir):
    """transformers before 3 resized the embeddings alone."""
    folder = tiny_model_dir("model", BertForMaskedLM)
    state = read_weights(folder / WEIGHTS_NAME)
    state["cls.predictions.bias"] = state["cls.predictions.bias"][:190]
    write_weights(state, folder, "bin")
    bias = BertForMaskedLM.from_pretrained(folder).cls.predictions.bias
    assert torch.equal(bias[:190], state["cls.predictions.bias"]) and not bias[190:].any()


def test_a_decoder_that_alone_was_padded_is_the_embeddings(tiny_model_dir):
    folder = tiny_model_dir("model", BertForMaskedLM)
    state = read_weights(folder / WEIGHTS_NAME)
    words = state["bert.embeddings.word_embeddings.weight"]
    state["cls.predictions.decoder.weight"] = torch.cat([words, torch.ones(8, 24)])
    for name in ("bias", "decoder.bias"):
        state[f"cls.predictions.{name}"] = torch.cat(
            [state["cls.predictions.bias"][:200], torch.ones(8)]
        )
    write_weights(state, folder, "bin")
    assert len(BertForMaskedLM.from_pretrained(folder).cls.predictions.bias) == 200
