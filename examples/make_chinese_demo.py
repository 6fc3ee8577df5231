"""Make a small Chinese data set about an invented island, in CMRC 2018's SQuAD style, and a model to train.

    python examples/make_chinese_demo.py --output build/chinese [--seed 0]

train.json and dev.json have passages about one thing each (an academy, a bridge, a lighthouse ...) with two
facts about a second one; a question asks for one fact. Every question has an answer; in dev.json three, as in
CMRC 2018: people differ on titles and units. vocab.txt has the characters of train.json alone, so names
in dev.json hold characters that it lacks. bert_config.json is of a model of 2 layers, which begins at random.
The same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
from typing import Any, Dict, NamedTuple

PASSAGES = {"train": 3000, "dev": 75}
TOLD, OTHERS, ASKED = 5, 1, 4  # facts of a passage, those of a second thing, questions
HELD = 6  # of the characters of names, those that only dev.json uses

SURNAMES = "沈陆宋叶顾梁许曹苏薛温孟尹程傅裴"
GIVEN = "若溪云舟青岚明远知秋怀瑾书宁景行望舒思齐清和子衿长庚南乔观澜静姝"
PLACES = "青白石柳松鹤梅竹沙雁枫莲"
PLACES_TAIL = "溪湾坞浦陵渚原岭川滩"
KINDS = "书院 石桥 灯塔 茶馆 码头 药铺 钟楼 织坊".split()
TITLES = "工匠 医生 船长 教师 商人".split()
MATERIALS = "青石 红砖 杉木 竹子 花岗岩 白灰".split()
GOODS = "桂花茶 海盐 丝绸 纸伞 药酒 陶罐 铜铃 墨锭".split()
UNITS = {"石桥": "米", "灯塔": "米", "钟楼": "米"}
FESTIVALS = "开海节 采茶节 放灯节 祭风节 晒盐节".split()

# What is said of a fact ({it}: the thing, {x}: the fact), and what is asked.
SAID: dict[str, tuple[str, ...]] = {
    "who": (
        "{it}由{title}{x}主持修建。",
        "主持修建{it}的是{title}{x}。",
        "{title}{x}变卖了家产,修建了{it}。",
    ),
    "when": ("{it}建成于{x}年。", "{x}年,{it}落成。", "到了{x}年,{it}终于完工。"),
    "where": ("{it}坐落在{x}镇。", "{it}位于岛上的{x}镇。", "在{x}镇的东边,可以看到{it}。"),
    "what": ("{it}的墙用{x}砌成。", "修建{it}的主要材料是{x}。", "{it}通体以{x}建造。"),
    "size": ("{it}有{x}{unit}高。", "{it}的高度是{x}{unit}。"),
    "name": ("当地人把{it}叫做“{x}”。", "{it}又名“{x}”。", "{it}在民间有“{x}”之称。"),
    "good": ("{it}附近的集市以{x}闻名。", "来{it}的人大多会买一些{x}。"),
    "feast": ("每逢{x},人们都聚在{it}前。", "{it}一年中最热闹的日子是{x}。"),
}
ASKS: dict[str, tuple[str, ...]] = {
    "who": ("谁主持修建了{it}?", "{it}是由谁修建的?", "修建{it}的人是谁?"),
    "when": ("{it}是哪一年建成的?", "{it}在什么时候完工?"),
    "where": ("{it}位于哪个镇?", "{it}在什么地方?"),
    "what": ("{it}是用什么建造的?", "{it}的材料是什么?"),
    "size": ("{it}有多高?", "{it}的高度是多少?"),
    "name": ("{it}的别名是什么?", "当地人怎么称呼{it}?"),
    "good": ("{it}附近的集市以什么闻名?", "人们在{it}附近买什么?"),
    "feast": ("人们在什么节日聚在{it}前?", "{it}在哪个节日最热闹?"),
}
FILLER = (
    "岛上的冬天很长,海风从早到晚不停。",
    "老人们常在傍晚说起过去的事。",
    "那时的船只很小,往来并不方便。",
    "如今这里仍有许多人居住。",
    "附近的小路两旁种满了树。",
)

Json = Dict[str, Any]


class Thing(NamedTuple):
    """A thing and the facts about it."""

    name: str
    facts: dict[str, str]
    title: str
    unit: str


class Fact(NamedTuple):
    """A fact that a passage states, and the characters at which people would accept it."""

    key: str
    answers: list[tuple[int, str]]


def made_of(characters: str, rng: random.Random, count: int) -> str:
    return "".join(rng.sample(characters, count))


def invent(rng: random.Random, given: str) -> Thing:
    """Invent a thing; `given` has the characters of people's names."""
    kind = rng.choice(KINDS)
    place = rng.choice(PLACES) + rng.choice(PLACES_TAIL)
    facts = {
        "who": rng.choice(SURNAMES) + made_of(given, rng, rng.choice((1, 2, 2))),
        "when": str(rng.randint(1480, 1930)),
        "where": place,
        "what": rng.choice(MATERIALS),
        "size": str(rng.randint(6, 98)),
        "name": made_of(given, rng, 2) + rng.choice("之心 之眼 阁 门 居".split()),
        "good": rng.choice(GOODS),
        "feast": rng.choice(FESTIVALS),
    }
    return Thing(made_of(given, rng, 2) + kind, facts, rng.choice(TITLES), UNITS.get(kind, "尺"))


def tell(thing: Thing, key: str, rng: random.Random) -> tuple[str, Fact]:
    """State a fact: the sentence, and its answers counted from the sentence's start."""
    form, value = rng.choice(SAID[key]), thing.facts[key]
    words = {"it": thing.name, "title": thing.title, "unit": thing.unit}
    start = len(form[: form.index("{x}")].format(**words))
    sentence = form.format(x=value, **words)
    others = {
        "who": (start - len(thing.title), thing.title + value),
        "when": (start, value + "年"),
        "where": (start, value + "镇"),
        "size": (start, value + thing.unit),
    }
    answers = [(start, value), others.get(key, (start, value)), (start, value)]
    rng.shuffle(answers)
    return sentence, Fact(key, answers)


def write_passage(thing: Thing, other: Thing, rng: random.Random) -> tuple[str, list[Fact]]:
    """Write a passage: facts of one thing, and of another one, and something that says nothing."""
    told = [tell(thing, key, rng) for key in rng.sample(sorted(thing.facts), TOLD)]
    told += [(tell(other, key, rng)[0], Fact("", [])) for key in rng.sample(sorted(other.facts), OTHERS)]
    told.append((rng.choice(FILLER), Fact("", [])))
    rng.shuffle(told)
    text, facts = "", []
    for sentence, fact in told:
        facts.append(Fact(fact.key, [(len(text) + start, value) for start, value in fact.answers]))
        text += sentence
    return text.replace(",", "\uff0c"), [fact for fact in facts if fact.key]


def make_split(split: str, rng: random.Random, given: str) -> Json:
    """Make one file; a training question has the shortest of its answers alone."""
    articles = []
    for number in range(PASSAGES[split]):
        thing, other = invent(rng, given), invent(rng, given)
        text, facts = write_passage(thing, other, rng)
        qas = []
        for order, fact in enumerate(rng.sample(facts, ASKED)):
            answers = [{"text": value, "answer_start": start} for start, value in fact.answers]
            if split == "train":
                answers = [min(answers, key=lambda answer: len(str(answer["text"])))]
            question = rng.choice(ASKS[fact.key]).format(it=thing.name).replace("?", "\uff1f")
            qas.append({"id": f"{split}-{number}-{order}", "question": question, "answers": answers})
        articles.append({"title": thing.name, "paragraphs": [{"context": text, "qas": qas}]})
    return {"version": "v1.0", "data": articles}


def vocabulary(train: Json) -> list[str]:
    """List the characters and numbers of the training file, and the pieces of numbers that it lacks."""
    paragraphs = [paragraph for article in train["data"] for paragraph in article["paragraphs"]]
    text = "".join(p["context"] + "".join(qa["question"] for qa in p["qas"]) for p in paragraphs)
    words = sorted({*text, *re.findall(r"\d+", text)})
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words, *(f"##{digit}" for digit in "0123456789")]


def write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(text + "\n")


def main() -> None:
    """Write the four files."""
    parser = argparse.ArgumentParser(description="make a small Chinese data set and a model to train on it")
    parser.add_argument("--output", required=True, help="folder for the files")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    os.makedirs(arguments.output, exist_ok=True)
    given = made_of("".join(sorted(set(GIVEN))), rng, len(set(GIVEN)))
    documents = {"train": make_split("train", rng, given[HELD:]), "dev": make_split("dev", rng, given)}
    for split, document in documents.items():
        path = os.path.join(arguments.output, split + ".json")
        write(path, json.dumps(document, ensure_ascii=False))
        print(f"{path}: {PASSAGES[split] * ASKED} questions on {PASSAGES[split]} passages")
    words = vocabulary(documents["train"])
    write(os.path.join(arguments.output, "vocab.txt"), "\n".join(words))
    config = {
        "vocab_size": len(words),
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 256,
        "hidden_act": "gelu",
        "max_position_embeddings": 256,
        "type_vocab_size": 2,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "initializer_range": 0.1,
    }
    write(os.path.join(arguments.output, "bert_config.json"), json.dumps(config, indent=1))


if __name__ == "__main__":
    main()
