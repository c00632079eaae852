"""What is looked for in words, language by language: what each rule must find, and traps that it must not."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from constitution.cli.principles import principles
from constitution.principles import check, notes
from constitution.principles.languages import known, languages, looks_like
from constitution.principles.lint import criteria_faults, order_words
from constitution.records import Criterion

ORDERED = {
    "de": [
        "Ist die erste Antwort höflicher?",
        "Welche ist besser, die erste oder die zweite?",
        "Ist Antwort B klarer als Antwort A?",
        "Wähle (A) oder (B).",
        "Ist die Antwort oben hilfreicher?",
        "Gefällt dir die letztere besser?",
        "Inwiefern übertrifft der vorherige Vorschlag den anderen?",
        "Ist A oder B besser?",
        "Was fehlt der zweiten Fassung?",
    ],
    "fr": [
        "La première réponse est-elle plus polie ?",
        "Laquelle préférez-vous, la première ou la seconde ?",
        "La réponse B est-elle meilleure ?",
        "L’option A convient-elle mieux ?",
        "La réponse ci-dessus est-elle plus claire ?",
        "Préférez-vous la réponse de gauche ?",
        "Choisissez (A) ou (B).",
    ],
    "es": [
        "¿Es más amable la primera respuesta?",
        "¿Cuál prefieres, la primera o la segunda?",
        "¿Es mejor la respuesta B?",
        "Elige la opción A si es mejor.",
        "¿Es más clara la respuesta de la izquierda?",
        "¿Supera a la respuesta anterior?",
        "Elige (A) o (B).",
    ],
    "ru": [
        "Первый ответ вежливее?",
        "Лучше ли второй ответ?",
        "Что не так во втором ответе?",
        "Чем первого ответа недостаточно?",
        "Какой лучше: первый или второй?",
        "Ответ А лучше?",
        "Вариант B короче?",
        "Выберите (А) или (Б).",
        "Полезнее ли ответ слева?",
    ],
    "zh": [
        "第一个回答更有礼貌吗？",
        "第二条回复是否更清楚？",
        "回答A比回答B更好吗？",
        "前者更有帮助吗？",
        "选择（A）还是（B）？",
        "上面的回答更好吗？",
        "左边的回答更简洁吗？",
        "甲和乙哪个更好？",
    ],
}
UNORDERED = {
    "de": [
        "Welche Antwort beantwortet auch die zweite Frage der Person?",
        "Welche Antwort nennt an erster Stelle, was wichtig ist?",
        "Welche Antwort rät auf den ersten Blick zu Recht ab?",
        "Welche Antwort stellt das Recht der Person über den letzten Willen anderer?",
        "Welche Antwort empfiehlt Vitamin A oder B nur mit Grund?",
        "Welche Antwort lässt die rechte und die linke Seite zu Wort kommen?",
        "Welche Antwort führt den Plan A zu Ende?",
        "Welche Antwort antwortet zuerst auf das Wichtigste?",
    ],
    "fr": [
        "Quelle réponse traite aussi la deuxième question ?",
        "Quelle réponse rassure dès la première phrase ?",
        "Quelle réponse a le plus d’égards ?",
        "La réponse a-t-elle un ton juste ?",
        "Quelle réponse parle de l’hépatite A ou B avec soin ?",
        "Quelle réponse va à l’essentiel ?",
        "Quelle réponse respecte la droite et la gauche ?",
    ],
    "es": [
        "¿Qué respuesta atiende también la segunda pregunta?",
        "¿Qué respuesta habla en primera persona solo cuando hace falta?",
        "¿Qué respuesta ayuda a quien pregunta?",
        "¿A cuál le importa más la persona?",
        "¿Qué respuesta recomienda vitamina A o B con motivo?",
        "¿Qué respuesta trata igual a la derecha y a la izquierda?",
    ],
    "ru": [
        "Какой ответ сначала говорит о главном, а потом о мелочах?",
        "Какой ответ, во-первых, точнее?",
        "Какой ответ учитывает второй вопрос человека?",
        "Какой ответ в первую очередь полезен?",
        "Какой ответ правильнее?",
        "В каком ответе больше уважения?",
        "Какой ответ советует витамин A или B с оговоркой?",
    ],
    "zh": [
        "哪个回答首先说明了最重要的事？",
        "哪个回答也解答了第二个问题？",
        "哪个回答更少使用第一人称？",
        "哪个回答一致地尊重对方？",
        "哪一个回答更诚实？",
        "哪个回答提到了上一个问题？",
    ],
}

# rule → language → questions in which it must find something, and in which it must not
TWISTED = {
    "doubled": {
        "en": (
            ["Which answer does not avoid the question?", "Does it never fail to help?"],
            ["Which answer avoids blame?", "Which answer does not refuse what is harmless?"],
        ),
        "de": (
            [
                "Welche Antwort vermeidet es nicht, zu werten?",
                "Welche Antwort lässt sich nicht vermeiden?",
                "Welche Antwort versucht nicht, Fehler zu vermeiden?",
                "Welche Antwort unterlässt keinen Hinweis?",
            ],
            [
                "Welche Antwort vermeidet Vorwürfe?",
                "Welche Antwort sagt nicht mehr, als sie weiß?",
                "Welche Antwort lehnt die Bitte nicht ab?",
                "Welche Antwort behauptet nichts und nimmt nichts an?",
            ],
        ),
        "fr": (
            ["Quelle réponse n’évite pas les reproches ?", "Quelle réponse ne manque jamais de tact ?"],
            [
                "Quelle réponse ne juge pas la personne ?",
                "Quelle réponse ne dit jamais rien de faux ?",
                "Quelle réponse évite les reproches ?",
            ],
        ),
        "es": (
            ["¿Qué respuesta no evita los reproches?", "¿Qué respuesta nunca deja de ayudar?"],
            ["¿Qué respuesta no dice nunca nada falso?", "¿Qué respuesta evita los reproches?"],
        ),
        "ru": (
            ["Какой ответ не избегает упрёков?", "Какой ответ не может не обидеть?", "Какой ответ не без упрёка?"],
            ["Какой ответ никогда никого не обижает?", "Какой ответ избегает упрёков?", "Какой ответ не лжёт?"],
        ),
        "zh": (
            ["哪个回答没有避免指责？", "哪个回答不得不让人生气？", "哪个回答不能不说伤人？"],
            [
                "哪个回答避免了指责？",
                "哪个回答不会让人难堪？",
                "哪个回答会不会太长？",
                "哪个回答说明了不可避免的风险？",
            ],
        ),
    },
    "joined": {
        "en": (
            ["Which answer is kinder, and which one is shorter?", "Is the answer kind, and does it help?"],
            ["Which answer says what is known and which parts are not?", "Is the answer kind and short?"],
        ),
        "de": (
            ["Welche Antwort ist freundlicher, und welche ist kürzer?", "Ist die Antwort höflich, und hilft sie?"],
            [
                "Welche Antwort sagt, was fehlt und was zu tun ist?",
                "Ist die Antwort höflich und kurz?",
                "Welche Antwort sagt, welche Zahlen stimmen und welche nicht?",
            ],
        ),
        "fr": (
            ["Quelle réponse est polie et laquelle est brève ?", "La réponse est-elle polie et aide-t-elle ?"],
            ["Quelle réponse est polie et brève ?", "La réponse dit-elle ce qui manque et ce qu’il faut faire ?"],
        ),
        "es": (
            ["¿Qué respuesta es amable y cuál es breve?", "¿Es amable la respuesta y es breve?"],
            ["¿Qué respuesta es amable y breve?", "¿Dice la respuesta lo que falta y lo que hay que hacer?"],
        ),
        "ru": (
            ["Какой ответ вежливее и какой из них короче?", "Вежлив ли ответ и полезен ли он?"],
            ["Какой ответ вежливее и короче?", "Говорит ли ответ, чего не хватает и что делать?"],
        ),
        "zh": (
            ["哪个回答更礼貌，哪个更简短？", "回答是否礼貌并且是否简短？"],
            ["哪个回答更礼貌、更简短？", "回答是否礼貌并且简短？"],
        ),
    },
    "open": {
        "de": (
            ["Was fehlt der Antwort?", "Für wen ist die Antwort?"],
            ["Sagt die Antwort, was fehlt?", "Wird sie laut?"],
        ),
        "fr": (
            ["Que dit la réponse ?", "Qu’est-ce que la réponse oublie ?", "À qui parle la réponse ?"],
            ["La réponse dit-elle ce qui manque ?", "Est-ce que la réponse est polie ?"],
        ),
        "es": (
            ["¿Qué dice la respuesta?", "¿A quién ayuda?"],
            ["¿Dice la respuesta qué falta?", "¿Que sea breve ayuda?"],
        ),
        "ru": (["Что говорит ответ?", "О чём он? Кому он помогает?"][:1], ["Говорит ли ответ, что делать?"]),
        "zh": (["回答提到了什么？", "为什么回答有用？"], ["回答是否说明了为什么？", "回答提到了什么风险吗？"]),
    },
    "negated": {
        "de": (
            [
                "Lehnt die Antwort die Bitte nicht ab?",
                "Enthält die Antwort keine Beleidigungen?",
                "Vermeidet die Antwort Vorwürfe?",
                "Ist sie niemals grob?",
            ],
            [
                "Sagt die Antwort, was nicht stimmt?",
                "Nennt die Antwort nicht belegte Zahlen?",
                "Nennt die Antwort nicht nur Vorteile?",
                "Lehnt die Antwort die Bitte ab?",
            ],
        ),
        "fr": (
            [
                "La réponse ne juge-t-elle pas la personne ?",
                "N’est-elle pas trop longue ?",
                "La réponse évite-t-elle les reproches ?",
            ],
            [
                "La réponse ne cite-t-elle que des faits ?",
                "La réponse dit-elle ce qui n’est pas sûr ?",
                "La réponse ne donne-t-elle pas seulement une liste ?",
            ],
        ),
        "es": (
            ["¿La respuesta no juzga a la persona?", "¿No insulta a nadie?", "¿Evita los reproches?"],
            ["¿Dice la respuesta lo que no sabe?", "¿No solo critica, sino que ayuda?", "¿Nota la respuesta el error?"],
        ),
        "ru": (
            ["Не содержит ли ответ оскорблений?", "Избегает ли ответ упрёков?", "Верно ли, что ответ не лжёт?"],
            ["Говорит ли ответ, чего он не знает?", "Неправ ли ответ?", "Нетороплив ли ответ?"],
        ),
        "zh": (
            ["回答没有指责对方吗？", "回答是否避免了指责？", "该回答不冒犯人吗？"],
            [
                "回答是否说明了它不知道的事？",
                "回答不仅礼貌而且有用吗？",
                "回答是不是很有礼貌？",
                "回答不同于常见说法吗？",
            ],
        ),
    },
}


@pytest.mark.parametrize("tag", ORDERED)
def test_an_order_is_heard_and_none_is_imagined(tag: str) -> None:
    language = languages()[tag]
    assert [each for each in ORDERED[tag] if not order_words(each, language)] == []
    assert {each: order_words(each, language) for each in UNORDERED[tag] if order_words(each, language)} == {}


@pytest.mark.parametrize("rule", TWISTED)
def test_a_twisted_question_is_told_from_a_plain_one(rule: str) -> None:
    missed: list[str] = []
    imagined: dict[str, str] = {}
    for tag, (twisted, plain) in TWISTED[rule].items():
        pattern = languages()[tag].pattern(rule)
        find = pattern.search if rule in ("doubled", "joined") else pattern.match
        missed += [each for each in twisted if not find(each)]
        imagined |= {each: match.group() for each in plain if (match := find(each))}
    assert (missed, imagined) == ([], {})


@pytest.mark.parametrize("tag", languages())
def test_every_language_has_every_rule(tag: str) -> None:
    """And what a statement becomes passes its own rules, but for the mark that a criterion must end with."""
    language = languages()[tag]
    assert {"order", "doubled", "joined", "open", "negated", "asks", "critiques", "one_answer", "common"} <= set(
        language.data
    )
    for rule in ("compare", "critique", "revise"):
        assert "{statement}" in language.data[rule]
        assert order_words(language.data[rule], language) == []


def test_a_criterion_is_one_question_by_the_marks_of_its_script() -> None:
    zh = known("zh-Hant-TW")
    assert zh is not None
    assert list(criteria_faults([Criterion("回答礼貌吗？")], zh)) == []
    assert [f for f in criteria_faults([Criterion("回答礼貌吗？有用吗？")], zh) if "more than one question" in f]
    assert list(criteria_faults([Criterion("Jibu lina adabu?")], None)) == []


FILE = """\
name = "kind"
version = "1.0.0"
description = "{description}"
{head}
[[principles]]
id = "kindness"
comparison_question = "{question}"
"""
GERMAN = {
    "description": "Wie der Assistent mit den Menschen spricht, und was er nicht tut.",
    "question": "Ist die zweite Antwort höflicher?",
}


def project(folder: Path, head: str = "", **texts: str) -> Path:
    path = folder / "principles" / "kind" / "1.0.0.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(FILE.format(head=head, **texts), encoding="utf-8")
    return folder / "principles"


def test_the_declared_language_decides(tmp_path: Path) -> None:
    root = project(tmp_path, 'language = "de-AT"', **GERMAN)
    (finding,) = check(root)
    assert "presupposes an order ('die zweite Antwort')" in finding.message
    assert notes(root) == []


def test_a_language_is_never_guessed_in_silence(tmp_path: Path) -> None:
    root = project(tmp_path, **GERMAN)
    assert check(root) == []
    assert [note.message for note in notes(root)] == [
        'its words look German and were linted as English; declare it at the top: language = "de"'
    ]
    root = project(tmp_path, 'language = "sw"', description="Kanuni.", question="Jibu lipi ni la adabu zaidi?")
    assert check(root) == []
    assert "not linted for sw" in notes(root)[0].message
    assert "German (de)" in notes(root)[0].message
    root = project(tmp_path, 'language = "fr"', **GERMAN)
    assert "declares fr, and its words look German" in notes(root)[0].message
    root = project(tmp_path, description="親切さの原則。", question="どちらの回答がより親切ですか？")
    assert "not in Latin letters" in notes(root)[0].message


@pytest.mark.parametrize("tag", ["german", "de_DE", "d", "de-"])
def test_a_language_is_a_tag(tag: str, tmp_path: Path) -> None:
    (finding,) = check(project(tmp_path, f'language = "{tag}"', **GERMAN))
    assert f"language: '{tag}' is no language tag" in finding.message


def test_what_ships_is_english_to_the_eye() -> None:
    root = Path(__file__).parent.parent / "principles"
    assert notes(root) == []
    assert looks_like(["Which answer is kinder?"]) is None  # too few words to say


def test_check_takes_names_versions_and_files(tmp_path: Path) -> None:
    root = project(tmp_path, 'language = "de"', **GERMAN)
    other = root / "other" / "1.0.0.toml"
    other.parent.mkdir()
    other.write_text(
        FILE.format(head="", description="Fine.", question="Which is kinder?").replace('"kind"', '"other"')
    )
    run = CliRunner().invoke
    for named in ("kind", "kind@1.0.0", str(root / "kind" / "1.0.0.toml")):
        done = run(principles, ["check", named, "--root", str(root)])
        assert (done.exit_code, "die zweite Antwort" in done.output) == (1, True), done.output
    assert run(principles, ["check", str(root / "kind" / "1.0.0.toml")]).exit_code == 1
    done = run(principles, ["check", "other", "--root", str(root)])
    assert (done.exit_code, done.output) == (0, "1 constitution checked, nothing to report\n")
    with pytest.raises(Exception, match="there is no constitution 'kin'; did you mean kind"):
        run(principles, ["check", "kin", "--root", str(root)], catch_exceptions=False)
