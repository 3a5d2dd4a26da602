"""TER and METEOR against sacrebleu and nltk, on English, Chinese and with WordNet files made by the test."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from agentft.evaluate import wordnet
from agentft.evaluate.wordnet import DictFiles

EN = "Your order has left our warehouse and arrives within three days."
ZH = "您的订单已经发货，预计三天内送达。"


@pytest.fixture(autouse=True)
def no_wordnet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What a machine has installed must not change the outcome."""
    import nltk

    monkeypatch.delenv(wordnet.VARIABLE, raising=False)
    monkeypatch.setattr(wordnet, "SYSTEM", tmp_path / "none")
    monkeypatch.setattr(nltk.data, "path", [])


def test_ter_by_hand_and_against_sacrebleu(part: Any, make_sample: Any) -> None:
    from sacrebleu.metrics import TER

    samples = [
        make_sample("a", "a b x d", reference="a b c d"),
        make_sample("b", "b", reference="a b"),
        make_sample("c", "", reference="a b c"),
    ]
    score = part("ter", samples)["ter"]
    assert score.value == pytest.approx(100 * 5 / 9) and score.direction == "lower" and score.unit == "points"
    assert score.value == pytest.approx(TER().corpus_score([s.text for s in samples], [[s.reference for s in samples]]).score)
    assert score.per_sample == pytest.approx({"a": 25.0, "b": 50.0, "c": 100.0}) and score.ci and score.ci[0] <= score.value <= score.ci[1]


def test_chinese_ter_is_by_characters(part: Any, make_sample: Any) -> None:
    # One of five characters replaced; as one word the whole sentence would be wrong (100).
    for language in ("zh", "en"):
        score = part("ter", [make_sample("a", "一二三四六", reference="一二三四五")], language)["ter"]
        assert score.value == pytest.approx(20) and "by characters" in score.summary
    assert part("ter", [make_sample("a", ZH, reference=ZH)])["ter"].value == 0
    assert "by characters" not in part("ter", [make_sample("a", ZH, reference=EN)])["ter"].summary  # depends on references only


def test_meteor_is_nltks(part: Any, make_sample: Any) -> None:
    from nltk.stem.porter import PorterStemmer
    from nltk.translate.meteor_score import single_meteor_score

    class Nothing:
        def synsets(self, word: str) -> list[Any]:
            return []

    answer, reference = "Three orders left the warehouse.", "The order left our warehouses in three days ."
    tokens = ["Three", "orders", "left", "the", "warehouse", "."]
    expected = single_meteor_score(reference.split(), tokens, stemmer=PorterStemmer(), wordnet=Nothing())  # type: ignore[arg-type]
    score = part("meteor", [make_sample("a", answer, reference=reference), make_sample("b", EN, reference=EN)])["meteor"]
    assert score.per_sample["a"] == pytest.approx(expected) and score.per_sample["b"] > 0.99
    assert "no WordNet here" in score.summary and score.ci is not None


def test_chinese_meteor_by_hand(part: Any, make_sample: Any) -> None:
    # 退款已到 against 退款未到: 3 matches in 2 chunks; P = R = F = 3/4; penalty 0.5 (2/3)^3.
    score = part("meteor", [make_sample("a", "退款已到", reference="退款未到")], "zh")["meteor"]
    assert score.value == pytest.approx(0.75 * (1 - 0.5 * (2 / 3) ** 3)) and score.summary == "METEOR over equal characters"
    assert part("meteor", [make_sample("a", ZH, reference=ZH)], "zh")["meteor"].value > 0.99


# A WordNet of two synsets in the real format (wndb(5WN)): the offset at the start of a line is its place in the file.
LICENCE = "  1 This software\n"
ADJECTIVES = ["00 s 03 large 0 big 0 great_big 0 000 | above average\n", "00 s 02 large(ip) 1 ample 0 000 | fairly big\n"]


def small_wordnet(folder: Path) -> Path:
    data, offsets = LICENCE, []
    for line in ADJECTIVES:
        offsets.append(len(data))
        data += f"{len(data):08d} {line}"
    folder.mkdir()
    (folder / "data.adj").write_text(data)
    index = [("ample", [1]), ("big", [0]), ("great_big", [0]), ("large", [0, 1])]
    lines = [f"{word} a {len(those)} 1 & {len(those)} 1 {' '.join(f'{offsets[i]:08d}' for i in those)}  \n" for word, those in index]
    (folder / "index.adj").write_text(LICENCE + "".join(lines))
    (folder / "adj.exc").write_text("biggest big\n")
    for name in ("index", "data"):
        (folder / f"{name}.noun").write_text(LICENCE)
    return folder


def test_synonyms_from_dict_files(tmp_path: Path) -> None:
    found = DictFiles(small_wordnet(tmp_path / "wn"))
    assert found.synonyms("large") == {"large", "big", "ample"}  # "great_big" is two words
    assert found.synonyms("biggest") == {"biggest", "big", "large"} and found.synonyms("larger") >= {"big"}
    assert found.synonyms("dog") == {"dog"} and found.synonyms("大") == {"大"}


def test_meteor_with_wordnet(part: Any, make_sample: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sample = make_sample("a", "the big dog", reference="the large dog")
    without = part("meteor", [sample])["meteor"].value
    monkeypatch.setenv(wordnet.VARIABLE, str(small_wordnet(tmp_path / "wn")))
    score = part("meteor", [sample])["meteor"]
    assert without < 0.7 and score.value == pytest.approx(1 - 0.5 / 27) and "dict files" in score.summary


def test_nothing_failed_and_all_wrong(part: Any, make_sample: Any) -> None:
    for name in ("ter", "meteor"):
        for samples, unscored in (([], 0), ([make_sample("a", finish="error", reference=EN)], 1), ([make_sample("a", "x")], 0)):
            score = part(name, samples)[name]
            assert math.isnan(score.value) and score.n == 0 and score.unscored == unscored and score.ci is None
    wrong = [make_sample(str(i), "zzz", reference="a b c") for i in range(3)]
    assert part("meteor", wrong)["meteor"].value == 0 and part("ter", wrong)["ter"].value == 100


def test_real_translations(part: Any, make_sample: Any, shared_data: Path) -> None:
    from sacrebleu.metrics import TER

    units = list(ET.parse(shared_data / "tico19_en_zh" / "all.en-zh.tmx").getroot().iter("tu"))[:60]
    zh = [unit.findall("tuv")[1].findtext("seg") or "" for unit in units]
    samples = [make_sample(f"{i:02}", text[: len(text) * 3 // 4], reference=text) for i, text in enumerate(zh)]
    ter, meteor = part("ter", samples, "zh")["ter"], part("meteor", samples, "zh")["meteor"]
    metric = TER(normalized=True, asian_support=True)
    assert ter.value == pytest.approx(metric.corpus_score([s.text for s in samples], [zh]).score)
    assert 15 < ter.value < 35 and ter.ci and ter.ci[1] - ter.ci[0] < 5 and 0.6 < meteor.value < 0.9
