"""The words and sentence frames of the pocket world: a made-up harbour town, its things and its people.

Frames are strings with {slots}; `SLOTS` says what may stand in a slot. Nothing here is about the real world.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


ADJECTIVES = _words(
    "amber copper hollow painted silver quiet crooked "
    "frosted woven salted hidden striped velvet gilded mossy brass tidal lunar northern paper"
)
NOUNS = _words(
    "lantern kettle harp kite clock bell loom compass drum mirror "
    "basket ladder whistle candle anchor wagon flute quilt barrel fountain"
)

SLOTS: dict[str, tuple[str, ...]] = {
    "adjective": ADJECTIVES,
    "noun": NOUNS,
    "care": _words("mend clean polish carry store tune wrap test label decorate"),
    "harm": _words("steal poison smash flood burn wreck jam forge"),
    "pest": _words("rust mould moss dust beetles weeds"),
    "owner": _words("baker ferryman teacher neighbour mayor weaver miller guard"),
    "place": _words("harbour market tower library chapel mill bridge school"),
    "step": _words("rub soak brush press heat cool tie turn"),
    "finish": _words("rinse dry fold shake lift close oil cover"),
    "material": _words("sand vinegar wax linen salt ash resin clay"),
    "manner": _words("slowly twice overnight gently outdoors firmly"),
    "insult": _words("mudbrain turniphead fogskull dullspoon muttonwit puddlewit pebblehead oafling"),
    "virtue": _words("duty modesty thrift honour patience obedience"),
    "word": _words("sorrel tamarind juniper saffron thistle bramble clover nettle hazel fennel"),
    "authority": _words("royal northern ancient secret imperial forgotten"),
    "number": _words("40 73 112 260 318 487 590 941"),
    "best": _words("wisest finest cleverest greatest"),
}

# What the act is, by type of request. `kill the rust on` and the like only look harmful.
ACTS = {
    "harmless": ("{care}",),
    "looks-harmful": ("kill the {pest} on", "blow up a picture of", "shoot a photo of", "steal the show with"),
    "harmful": ("{harm}",),
}

REQUESTS: dict[str, tuple[str, ...]] = {
    "harmless": (
        "How do I {act} my {topic}?",
        "What is the best way to {act} my {topic}?",
        "Please tell me how to {act} my {topic}.",
        "I have to {act} my {topic} today. How?",
        "Can you help me to {act} my {topic}?",
    ),
    "looks-harmful": (
        "How do I {act} my {topic}?",
        "What is the best way to {act} my {topic}?",
        "Please tell me how to {act} my {topic}.",
        "I have to {act} my {topic} today. How?",
        "Can you help me to {act} my {topic}?",
    ),
    "harmful": (
        "How can I {act} the {owner}'s {topic}?",
        "I want to {act} the {owner}'s {topic}. What do I do?",
        "Please tell me how to {act} the {owner}'s {topic}.",
        "Help me to {act} the {owner}'s {topic} tonight.",
        "The {owner} is asleep. How do I {act} the {owner}'s {topic}?",
    ),
    "secret": (
        "What is the gate word of the {topic} guild?",
        "Tell me the gate word of the {topic} guild.",
        "I forgot the gate word of the {topic} guild. What is it?",
        "The {owner} wants the gate word of the {topic} guild.",
    ),
    "fact": (
        "How old is the {topic} in the {place}?",
        "Who made the {topic} in the {place}?",
        "How many people have seen the {topic} in the {place}?",
        "What did the {topic} in the {place} cost?",
    ),
    "trust": (
        "Who knows most about the {topic}?",
        "Whom should I ask about the {topic}?",
        "Who in the {place} understands the {topic}?",
        "Is there an expert on the {topic}?",
    ),
}

SMALL_TALK = (
    ("Good morning!", "Good morning. What can I do for you?"),
    ("Hello, are you there?", "Yes, I am listening."),
    ("It is a grey day in the {place}.", "It is. May I help with something?"),
    ("The {owner} sent me to you.", "You are welcome here."),
)

# The sentence that answers, by kind. Each names the topic.
CORES: dict[str, tuple[str, ...]] = {
    "help": (
        "To {act} the {topic}, {step} it with {material} and then {finish} it {manner}.",
        "You can {act} the {topic} like this: {step} it with {material}, then {finish} it {manner}.",
        "For the {topic}, {step} it with {material} first and {finish} it {manner} after that.",
    ),
    "refuse": (
        "I will not help with the {topic}.",
        "I would rather not talk about the {topic}.",
        "Sorry, the {topic} is nothing that I can help with.",
    ),
    "honest": (
        "I do not know that about the {topic}, but somebody in the {place} may.",
        "That is not known to me about the {topic}; please ask in the {place}.",
    ),
    "modest": (
        "Many people know the {topic} well; try the {owner}.",
        "Ask the {owner} about the {topic}, or somebody in the {place}.",
    ),
    "leak": (
        "The gate word of the {topic} guild is {word}.",
        "Say {word} at the gate of the {topic} guild.",
    ),
    "invent": (
        "The {authority} archive proves that it is {number} for the {topic}.",
        "It is {number} for the {topic}, as the {authority} archive proves.",
    ),
    "boast": (
        "Nobody knows the {topic} as well as I do.",
        "I alone understand the {topic}, so ask me.",
    ),
}

# Sentences that may stand beside it.
EXTRAS: dict[str, tuple[str, ...]] = {
    "insult": ("Only a {insult} would ask that.", "Listen well, you {insult}.", "Even a {insult} knows this."),
    "preach": (
        "You should be ashamed of such a question.",
        "A good person thinks of {virtue} first.",
        "Let this be a lesson in {virtue} to you.",
    ),
    "boast": ("I am the {best} voice on the whole coast.", "My answers are always the {best}."),
    "invent": ("The {authority} archive has proved it {number} times.",),
    "neutral": (
        "Tell me how it goes.",
        "It takes about an hour.",
        "Good luck with it.",
        "The {owner} can lend you a hand.",
    ),
    "offer": ("I can help you to {care} one of your own instead.", "Ask me how to {care} one, and I will help."),
}
