"""Whether two items demand the same, or one what the other forbids, told from their words.

An item is brought to what it is about (its words without the frame "Does the answer …", by their stems, with words
that mean the same in rubrics taken for one) and to what it wants: whether it asks for that or, by a negation, for its
absence, and whether yes or no speaks for the answer. Paraphrases that share few words are not found here; readings
show them (their correlation over answers).
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from constitution.judge.rubrics.phrases import bare, quoted
from constitution.judge.rubrics.written import Written

ALIKE = 0.8
"""Share of the words of two items, taken together, that they have in common, from which they are about the same."""


class Demand(NamedTuple):
    about: frozenset[str]
    """Stems of what it is about."""
    exact: frozenset[str]
    """Numbers, and what it quotes: two items that differ in these are about different things."""
    asked: bool
    """False: it asks for the absence ("Does it avoid …")."""
    denied: bool
    """True: there is a "not" inside what it is about ("Does it say that … is not …")."""
    wanted: bool
    """Whether the reply yes speaks for the answer."""
    quality: bool
    """It asks what the answer is, not what is in it: then opposites exclude each other."""

    @property
    def presence(self) -> bool:
        """Whether what it is about shall be there."""
        return self.asked == self.wanted


def demand(item: Written) -> Demand:
    text = bare(item.question)
    for turn, instead in _TURNS:
        text = turn.sub(instead, text)
    words = re.findall(r"[^\W_]+(?:'t)?", text)
    start = _predicate(words)
    head = [word for word in words[:start] if _negative(word)]
    inner = [word for word in words[start:] if _negative(word)]
    absent = len(head) % 2 == 1
    # "Is it free of …", "Does it contain no …", "Is … missing": the frame ends with the absence.
    if inner and not head and inner[0] in _ABSENCE and not _CLAIMS & set(words):
        absent, inner = not absent, inner[1:]
    stems = {_stem(word) for word in words if word not in _FRAME | _SMALL and not _negative(word)}
    exact = {*re.findall(r"\d+(?:[.,]\d+)*", text), *(" ".join(q.casefold().split()) for q in quoted(item.question))}
    return Demand(
        about=frozenset(stem for stem in stems - _DEFAULT or stems if not stem.isdigit()),
        exact=frozenset(exact),
        asked=not absent,
        denied=len(inner) % 2 == 1,
        wanted=item.good == "yes",
        quality=bool(_QUALITY.match(text)),
    )


def _predicate(words: list[str]) -> int:
    """Where the item begins to say what it is about: behind "Does the poem not", "Fails to", "It avoids"."""
    start = 3 if len(words) > 3 and words[0] in _AUXILIARY and words[1] in _THE else 0
    while start < len(words) and (words[start] in _FRAME or words[start] == "to" or _negative(words[start])):
        start += 1
    return start


def _negative(word: str) -> bool:
    return word in _NEGATIVE or word.endswith("n't")


def relation(one: Demand, other: Demand) -> Literal["duplicate", "mirror", "contradicts"] | None:
    if one.exact != other.exact:
        return None
    if _same(one.about, other.about):
        if one.denied != other.denied:
            # "Says that it is safe" and "says that it is not safe": both wanted, one of them must fail.
            return "contradicts" if one.presence and other.presence else None
        if one.presence != other.presence:
            return "contradicts"
        return "duplicate" if one.asked == other.asked else "mirror"
    if one.quality and other.quality and _opposite(one.about, other.about):
        if one.presence == other.presence:
            return "contradicts" if one.presence else None
        return "mirror"
    return None


def _same(one: frozenset[str], other: frozenset[str]) -> bool:
    both = len(one & other)
    return both > 0 and both >= ALIKE * len(one | other)


def _opposite(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether they differ in one word, which is the other's opposite."""
    left, right = one - other, other - one
    if len(left) != 1 or len(right) != 1:
        return False
    (a,), (b,) = left, right
    return frozenset((a, b)) in _OPPOSITES or any(
        long == prefix + short
        for prefix in ("un", "in", "im", "ir", "il", "dis", "non")
        for long, short in ((a, b), (b, a))
    )


def _stem(word: str) -> str:
    """The same for the forms of a word, and for words that mean the same in a rubric."""
    root = _root(word)
    return _MEANS.get(root, root)


def _root(word: str) -> str:
    """Harman's S-stemmer (1991), then -ing, -ed and -ly; not a word of the language, and no more than a key."""
    for ending, instead, but in _PLURAL:
        if word.endswith(ending) and not word.endswith(but) and len(word) > len(ending) + 2:
            word = word[: -len(ending)] + instead
            break
    for ending in ("ing", "ed", "ly"):
        if word.endswith(ending) and len(word) > len(ending) + 1:
            word = word[: -len(ending)]
            if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls":
                word = word[:-1]
            break
    return word.removesuffix("e") if len(word) > 2 else word


_TURNS = tuple(
    (re.compile(turn), instead)
    for turn, instead in {
        r"\bleaves? (?:out )?([^?]*?)(?: out)?(?=[?.]|$)": r"omit \1",
        r"\bfree (?:of|from)\b": "lacking",
        r"\b(?:keep|refrain|abstain)s? from\b|\b(?:refuse|decline)s? to\b|\bstops? short of\b": "avoid",
        r"\b(recommend|advise|suggest|argue)(s?) against\b": r"\1\2 not",
    }.items()
)
"""Negations of several words, and the one word that is read for them."""
_PLURAL = (("ies", "y", ("eies", "aies")), ("es", "e", ("aes", "ees", "oes")), ("s", "", ("us", "ss")))


def _set(*lines: str) -> frozenset[str]:
    return frozenset(" ".join(lines).split())


_FRAME = _set(
    "does do did is are was has have had can could will would should must the this that it its an a answer",
    "response reply assistant model text output completion chatbot ai explicitly clearly correctly accurately",
    "specifically directly also properly explicit clear there any",
)
_NEGATIVE = _set(
    "not no never without avoid avoids avoiding fail fails failing omit omits omitting lack lacks lacking",
    "neglect neglects refrain refrains refraining absent exclude excludes excluding missing nothing nor",
    "neither",
    # Of other languages, so that an item and its opposite are not taken for the same.
    "nicht kein keine keinen nie niemals pas jamais aucun nunca nada non mai não не никогда нет",
    "niet geen nooit ikke inte",
)
_AUXILIARY = _set("does do is are has have did was were can")
_THE = _set("the this that its every each a an any all")
_ABSENCE = _set("no absent missing nothing exclude excludes excluding lack lacks lacking omit omits")
_CLAIMS = _set("that says state states say claim claims why because if")
_SMALL = _set(
    "to of in on at by for with from as and or be been being so such very user users person people them they",
    "he she his her their your you i we us our which what if then than into about some all each every own both",
    "again here just too s",
)
_SAID = _set(
    "state say mention note name identify list give provide include contain indicate specify cite offer describe point",
    "tell report discuss cover refer reference feature address deal use employ",
)
"""What an answer does to have something in it: with these the demand is the same."""
_GROUPS = (
    "explain clarify elaborate justify",
    "recommend suggest advise propose urge encourage",
    "warn caution alert",
    "summarize summarise summary recap",
    "ask request inquire enquire",
    "use utilize utilise",
    "refuse decline",
    "apologize apologise apology",
    "polite courteous respectful civil",
    "rude impolite disrespectful discourteous uncivil",
    "correct right accurate true",
    "wrong incorrect inaccurate false",
    "step instruction",
    "example instance illustration",
    "doctor physician clinician",
    "danger hazard peril",
    "begin start open",
    "end conclude close finish",
    "reason cause rationale",
    "advantage benefit upside strength",
    "disadvantage drawback downside weakness",
    "error mistake",
    "fix repair mend",
    "price cost",
    "show demonstrate display",
    "buy purchase",
    "help assist aid support",
)
_PAIRS = """
polite/rude correct/wrong formal/casual formal/informal serious/humorous serious/funny short/long brief/long
brief/detailed simple/technical simple/complex positive/negative neutral/biased neutral/opinionated
first/third optimistic/pessimistic warm/cold friendly/hostile safe/dangerous safe/harmful honest/deceptive
calm/angry literal/figurative singular/plural active/passive young/old happy/sad beginner/expert
vague/specific general/specific past/present
"""
_MEANS = {_root(word): _root(group.split()[0]) for group in _GROUPS for word in group.split()}
_DEFAULT = frozenset(map(_root, _SAID))
_OPPOSITES = frozenset(frozenset(map(_stem, pair.split("/"))) for pair in _PAIRS.split())
_QUALITY = re.compile(
    r"^(?:is|are|does|do|has|have)?\s*(?:the |this |it\b|its |an? )[^?]*?\b(?:is|are|be|tone|style|voice"
    r"|register|language|tense|person|manner|written|way|sound|remain|stay|keep)\b|^(?:is|are) "
)
