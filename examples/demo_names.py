"""Invented names for the demo's data set: no name is used twice, and train and dev share none."""

from __future__ import annotations

import random
from collections import deque

WOMEN = (
    "Ada Agnes Alma Anna Beatrice Berta Clara Cora Dora Edith Ella Emma Esther Flora Freda Greta Hanna "
    "Helen Ida Irene Jane Julia Karin Laura Lena Lydia Mabel Maria Martha Mina Nora Olga Paula Rosa Ruth "
    "Sara Sonia Stella Vera Wilma"
).split()
MEN = (
    "Adam Albert Anton Arthur Bruno Carl Daniel David Edgar Emil Erik Felix Frank George Gustav Harold "
    "Henry Hugo Isaac Jacob Jonas Joseph Karl Leo Louis Martin Max Nathan Oliver Oscar Otto Paul Peter "
    "Ralph Robert Samuel Simon Theo Victor Walter"
).split()
SURNAME_STEMS = (
    "Ald Bar Bell Ber Black Bran Brom Cal Carl Cran Dal Dorn Dun Elm Fair Fen Gar Gold Gran Hal Har "
    "Hart Hazel Hol Jar Kel Kern Kirk Lam Lang Lin Lor Mar Mel Mer Mor Nor Oak Or Pel Pen Quin Ram "
    "Red Ros Rud Sal San Sel Silver Stan Stein Stern Stor Tal Tar Thorn Tor Ul Val Ver Wal War Wes Win "
    "Wolf Zel"
).split()
SURNAME_ENDS = (
    "beck berg bold croft dahl den der dorf gard gate gren hardt hoff holm kamp kin lander lein lock low "
    "lund mann mark mond more nell ner rick ridge rood sen sher stad stone strom tell thal ting vale ward "
    "well wick witz worth"
).split()
PLACE_STEMS = (
    "Al Amber Ar Bal Bay Birch Bor Bright Cam Cor Crow Dam Deep Dor Eag East El Far Fin Fox Glen Gra Green "
    "Gull Haver High Il Iron Kal Kar Lan Lar Lime Lu Mal Man Mil Mon Nar Nether North Ol Os Over Pal Par "
    "Pine Por Ran Raven Rock Sand Sar Sea Sor South Swan Tam Ter Tor Tran Ulver Var Vel Wester White "
    "Wil Wyn Yar"
).split()
PLACE_ENDS = (
    "acre ada apol ara ascar avik bank bay borg bourne brook burg burn by cliff cote dale don eno fell ford "
    "garth grove gund ham haven hill holt ia ina ista kirk land lea light marsh mere mont mouth nes ona oras "
    "ova pool port rona stead stow thorpe toft ton una vik ville water wich"
).split()
ADJECTIVES = (
    "Amber Blue Bold Bright Broken Burning Calm Copper Crimson Dancing Distant Empty Faithful Flying Gentle "
    "Gilded Golden Green Grey Hidden Hollow Honest Iron Jade Laughing Lonely Merry Midnight Patient Proud "
    "Quiet Restless Rising Scarlet Silent Silver Singing Sleeping Sudden Velvet Wandering White Wild Winter"
).split()
NOUNS = (
    "Anchor Arrow Badger Beacon Bell Candle Clover Comet Crane Crown Dolphin Dove Falcon Feather Ferry "
    "Fiddle Fox Garden Gate Harvest Hawk Heron Horizon Island Kite Ladder Lantern Lark Lily Maiden Meadow "
    "Mirror Morning Oak Orchard Otter Owl Pearl Pilgrim Raven River Rose Shepherd Sparrow Star Swallow "
    "Thistle Tower Traveller Violin Willow Window Wren"
).split()


def deal(rng: random.Random, stems: list[str], ends: list[str], separator: str = "") -> list[str]:
    """Join every stem to every end, in random order, without tripled letters or repeated words."""
    words = [
        stem + separator + end
        for stem in stems
        for end in ends
        if stem[-1] != end[0] and stem.lower() != end.lower()
    ]
    rng.shuffle(words)
    return words


class Names:
    """A supply of names of each sort; a name is used once (a surname may return with another first name)."""

    def __init__(self, decks: dict[str, list[str]], rng: random.Random) -> None:
        self.decks = {sort: deque(words) for sort, words in decks.items()}
        self.rng = rng
        self.given: set[str] = set()

    def take(self, sort: str) -> str:
        """Return a new name of `sort`: woman, man, person, surname, place or pair; nouns may repeat."""
        if sort == "noun":
            return self.rng.choice(NOUNS)
        if sort == "person":
            sort = self.rng.choice(("woman", "man"))
        while True:
            name = self._draw(sort)
            if name not in self.given:
                self.given.add(name)
                return name

    def _draw(self, sort: str) -> str:
        if sort in ("woman", "man"):
            first = self.rng.choice(WOMEN if sort == "woman" else MEN)
            return f"{first} {self._draw('surname')}"
        self.decks[sort].rotate(1)
        return self.decks[sort][0]


def two_sets(rng: random.Random, dev_share: float) -> list[Names]:
    """Make the names of train and of dev, which share no surname, place or pair of words."""
    decks = {
        "surname": deal(rng, SURNAME_STEMS, SURNAME_ENDS),
        "place": deal(rng, PLACE_STEMS, PLACE_ENDS),
        "pair": deal(rng, ADJECTIVES, NOUNS, " "),
    }
    cut = {sort: int(len(words) * dev_share) for sort, words in decks.items()}
    dev = {sort: words[: cut[sort]] for sort, words in decks.items()}
    train = {sort: words[cut[sort] :] for sort, words in decks.items()}
    return [Names(train, rng), Names(dev, rng)]
