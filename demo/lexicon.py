"""The words of the demo language: real English words in closed classes, with forms and relations.

A word is named by its lemma. `SYNONYMS` pairs words of the same class that mean the same thing;
`canonical` maps both to one of them. Nouns stand in a taxonomy of three levels (`NOUN_TREE`).
"""

from __future__ import annotations

# top class -> middle class -> most specific classes
NOUN_TREE = {
    "animal": {
        "dog": ("spaniel", "terrier", "poodle", "beagle"),
        "bird": ("sparrow", "falcon", "heron", "owl"),
        "insect": ("beetle", "cricket", "moth", "ant"),
        "horse": ("stallion", "pony", "mare", "colt"),
    },
    "person": {
        "worker": ("farmer", "baker", "miner", "plumber"),
        "musician": ("pianist", "drummer", "violinist", "singer"),
        "athlete": ("runner", "boxer", "swimmer", "skater"),
        "artist": ("painter", "sculptor", "poet", "dancer"),
    },
    "vehicle": {
        "car": ("sedan", "taxi", "limousine", "jeep"),
        "boat": ("canoe", "ferry", "yacht", "raft"),
    },
    "plant": {
        "tree": ("oak", "pine", "birch", "maple"),
        "flower": ("rose", "tulip", "daisy", "orchid"),
    },
}
WORKS = ("film", "novel", "song", "drama", "painting", "album", "opera", "comedy")
PARTS = ("plot", "ending", "dialogue", "style", "rhythm", "opening")
PLACES = (
    "garden", "river", "village", "market", "park", "street",
    "school", "station", "valley", "kitchen", "harbor", "forest",
)  # fmt: skip
CRITICS = ("critic", "reader", "guest")
NAMES = (
    "anna", "ben", "clara", "david", "emma", "felix", "grace", "henry",
    "irene", "jacob", "karin", "leo", "maria", "nora", "oscar", "paula",
)  # fmt: skip

# verb -> (third person singular, participle)
INTRANSITIVE = {
    "sleep": "sleeps", "doze": "dozes", "walk": "walks", "stroll": "strolls",
    "jump": "jumps", "leap": "leaps", "rest": "rests", "relax": "relaxes",
    "shout": "shouts", "yell": "yells", "fall": "falls", "tumble": "tumbles",
    "weep": "weeps", "sob": "sobs", "wait": "waits", "smile": "smiles",
    "vanish": "vanishes", "disappear": "disappears",
}  # fmt: skip
TRANSITIVE = {
    "chase": ("chases", "chased"), "pursue": ("pursues", "pursued"),
    "help": ("helps", "helped"), "assist": ("assists", "assisted"),
    "see": ("sees", "seen"), "spot": ("spots", "spotted"),
    "pull": ("pulls", "pulled"), "drag": ("drags", "dragged"),
    "carry": ("carries", "carried"), "haul": ("hauls", "hauled"),
    "protect": ("protects", "protected"), "guard": ("guards", "guarded"),
    "push": ("pushes", "pushed"), "shove": ("shoves", "shoved"),
    "hide": ("hides", "hidden"), "conceal": ("conceals", "concealed"),
    "follow": ("follows", "followed"), "touch": ("touches", "touched"),
}  # fmt: skip
# verbs that never take an object, and verbs that cannot do without one (the others may, in English)
NEVER_WITH_OBJECT = (
    "sleep",
    "doze",
    "fall",
    "tumble",
    "sob",
    "wait",
    "smile",
    "vanish",
    "disappear",
)
ALWAYS_WITH_OBJECT = (
    "pursue",
    "spot",
    "drag",
    "carry",
    "haul",
    "protect",
    "guard",
    "conceal",
    "touch",
)
# verbs of liking -> (third person singular, the polarity they give their object)
OPINION = {
    "love": ("loves", 1), "adore": ("adores", 1), "praise": ("praises", 1),
    "recommend": ("recommends", 1), "hate": ("hates", -1), "detest": ("detests", -1),
    "mock": ("mocks", -1), "reject": ("rejects", -1),
}  # fmt: skip

NEUTRAL_ADJECTIVES = (
    "old", "elderly", "young", "youthful", "big", "large", "small", "little",
    "quiet", "silent", "strong", "sturdy", "tired", "weary", "brave", "bold",
    "angry", "furious", "tall", "lonely",
)  # fmt: skip
POSITIVE = (
    "good", "fine", "pleasant", "charming", "delightful", "funny", "amusing", "touching",
    "superb", "excellent", "brilliant", "splendid", "wonderful", "marvelous", "thrilling", "gripping",
)  # fmt: skip
NEGATIVE = (
    "bad", "poor", "dull", "boring", "tedious", "silly", "foolish", "clumsy",
    "awful", "terrible", "dreadful", "horrible", "feeble", "bland", "tiresome", "shallow",
)  # fmt: skip
INTENSIFIERS = ("very", "really", "quite", "rather", "truly")
ADVERBS = (
    "slowly", "quickly", "rapidly", "often", "frequently", "quietly",
    "happily", "gladly", "carefully", "loudly",
)  # fmt: skip

# determiner -> grammatical numbers it takes (False singular, True plural)
DETERMINERS = {
    "the": (False, True), "some": (False, True), "no": (False, True),
    "a": (False,), "every": (False,), "each": (False,), "not every": (False,),
    "this": (False,), "that": (False,),
    "all": (True,), "not all": (True,), "these": (True,), "those": (True,),
    "two": (True,), "many": (True,), "the two": (True,), "those two": (True,), "the many": (True,),
}  # fmt: skip
PREPOSITIONS = ("in", "near", "behind")

SYNONYMS = (
    ("dog", "hound"), ("horse", "steed"), ("insect", "bug"), ("worker", "laborer"),
    ("car", "automobile"), ("boat", "vessel"), ("flower", "blossom"), ("person", "human"),
    ("animal", "creature"), ("taxi", "cab"), ("singer", "vocalist"), ("farmer", "grower"),
    ("film", "movie"), ("novel", "book"), ("song", "tune"), ("plot", "story"), ("ending", "finale"),
    ("village", "town"), ("garden", "yard"), ("river", "stream"), ("street", "road"),
    ("sleep", "doze"), ("walk", "stroll"), ("jump", "leap"), ("rest", "relax"), ("shout", "yell"),
    ("fall", "tumble"), ("weep", "sob"), ("vanish", "disappear"),
    ("chase", "pursue"), ("help", "assist"), ("see", "spot"), ("pull", "drag"), ("carry", "haul"),
    ("protect", "guard"), ("push", "shove"), ("hide", "conceal"), ("love", "adore"), ("hate", "detest"),
    ("old", "elderly"), ("young", "youthful"), ("big", "large"), ("small", "little"),
    ("quiet", "silent"), ("strong", "sturdy"), ("tired", "weary"), ("brave", "bold"),
    ("angry", "furious"), ("quickly", "rapidly"), ("often", "frequently"), ("happily", "gladly"),
    ("every", "each"), ("every", "all"), ("not every", "not all"),
)  # fmt: skip

_CANON = {other: first for first, other in SYNONYMS}
_OTHERS = {}
for _first, _other in SYNONYMS:
    _OTHERS.setdefault(_first, []).append(_other)
    _OTHERS.setdefault(_other, []).append(_first)

# canonical noun -> its direct superclass; the tops have none
PARENT = {
    child: parent
    for top, middles in NOUN_TREE.items()
    for parent, children in [(top, tuple(middles)), *middles.items()]
    for child in children
}
LEAVES = tuple(
    leaf for middles in NOUN_TREE.values() for leaves in middles.values() for leaf in leaves
)
MIDDLES = tuple(middle for middles in NOUN_TREE.values() for middle in middles)


def canonical(word: str) -> str:
    """The word that stands for `word` and its synonyms."""
    return _CANON.get(word, word)


def synonyms(word: str) -> tuple[str, ...]:
    """The other words of the same class and meaning (quantifiers excepted: see `DETERMINERS`)."""
    return tuple(_OTHERS.get(word, ()))


def superclasses(noun: str) -> tuple[str, ...]:
    """Canonical classes that contain `noun`, itself first."""
    chain = [canonical(noun)]
    while chain[-1] in PARENT:
        chain.append(PARENT[chain[-1]])
    return tuple(chain)


def is_a(noun: str, other: str) -> bool:
    """Whether everything `noun` names is also named by `other`."""
    return canonical(other) in superclasses(noun)


def _with_synonyms(words) -> tuple[str, ...]:
    return tuple(form for word in words for form in (word, *_OTHERS.get(word, ())))


TAXONOMY_NOUNS = _with_synonyms((*NOUN_TREE, *MIDDLES, *LEAVES))
ANIMATE_NOUNS = tuple(
    noun for noun in TAXONOMY_NOUNS if superclasses(noun)[-1] in ("animal", "person")
)
WORK_NOUNS = _with_synonyms(WORKS)
PART_NOUNS = _with_synonyms(PARTS)
PLACE_NOUNS = _with_synonyms(PLACES)
NOUNS = (*TAXONOMY_NOUNS, *WORK_NOUNS, *PART_NOUNS, *PLACE_NOUNS, *CRITICS)
ADJECTIVES = (*NEUTRAL_ADJECTIVES, *POSITIVE, *NEGATIVE)

_THIRD_PERSON = {
    **INTRANSITIVE,
    **{verb: forms[0] for verb, forms in TRANSITIVE.items()},
    **{verb: forms[0] for verb, forms in OPINION.items()},
    "be": "is",
    "do": "does",
    "have": "has",
    "consider": "considers",
}


def plural(noun: str) -> str:
    """The plural form of a noun."""
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "es" if noun.endswith(("ch", "x", "s")) else noun + "s"


def finite(verb: str, is_plural: bool) -> str:
    """The present-tense form that agrees with a singular or plural subject."""
    if not is_plural:
        return _THIRD_PERSON[verb]
    return "are" if verb == "be" else verb


def participle(verb: str) -> str:
    """The form used in the passive; raises KeyError for a verb that has no passive."""
    return TRANSITIVE[verb][1]


def polarity(word: str) -> int:
    """+1, -1, or 0 for a word that praises, blames or does neither."""
    if word in OPINION:
        return OPINION[word][1]
    return (word in POSITIVE) - (word in NEGATIVE)


ALL_WORDS = tuple(
    dict.fromkeys(
        [*NOUNS, *map(plural, TAXONOMY_NOUNS)]
        + [form for verb in _THIRD_PERSON for form in (finite(verb, False), finite(verb, True))]
        + [participle(verb) for verb in TRANSITIVE]
        + [*ADJECTIVES, *INTENSIFIERS, *ADVERBS, *NAMES, *PREPOSITIONS]
        + [word for determiner in DETERMINERS for word in determiner.split()]
        + ["an", "not", "by", "and", "but", "although", "so", "it", "true"]
    )
)
