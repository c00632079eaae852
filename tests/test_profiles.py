"""Profiles: other weights of the same principles, by which the stored votes have other labels without a call."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from export_runs import NO_CLEANING
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from profile_runs import CONSTITUTION, PROFILES, RUN, VOTING, Stored, gold_of, store
from relabelled import JURY, same
from relabelled import section as judge_section
from votes_run import PRINCIPLES, make
from votes_run import RUN as VOTES_RUN

from constitution.audit import audit
from constitution.errors import InputError
from constitution.export import Settings, export
from constitution.labels import Rules, label_pair
from constitution.labels.profiles import IGNORED, ProfileLabels, profile_labels
from constitution.labels.votes import side
from constitution.principles.diff import diff_constitutions, render_diff
from constitution.principles.schema import parse
from constitution.principles.toml_writer import write_toml
from constitution.records import Annotation, Constitution, Preference, Profile
from constitution.warehouse import Warehouse, connect


def labels(root: Path, profile: Profile, run_id: str = RUN) -> ProfileLabels:
    warehouse = Warehouse(root)
    run, constitution = warehouse.read_run(run_id), warehouse.read_principles(run_id)
    assert run
    assert constitution
    with connect(root) as connection:
        return profile_labels(connection, run, constitution, profile)


def sides(made: ProfileLabels) -> dict[str, int]:
    p_b = np.nan_to_num(made.preferences.column("p_b").to_numpy(zero_copy_only=False).astype(float), nan=0.5)
    return dict(zip(made.preferences.column("id").to_pylist(), side(p_b).tolist(), strict=True))


@pytest.fixture(scope="module")
def pocket(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Stored]:
    root = tmp_path_factory.mktemp("pocket") / "warehouse"
    return root, store(root, pairs=250)


# --- which labels turn


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.id)
def test_a_profile_flips_exactly_the_pairs_whose_weights_say_so(pocket: tuple[Path, Stored], profile: Profile) -> None:
    root, stored = pocket
    base, own = CONSTITUTION.weights(), CONSTITUTION.weights(profile)
    made = labels(root, profile)
    found = sides(made)
    voted = {id for id, votes in stored.votes.items() if votes}
    assert found == {id: stored.side(id, own) if id in voted else 0 for id in stored.pairs}
    flipped = {id for id in voted if stored.side(id, own) * stored.side(id, base) < 0}
    assert made.relabelled.turned == len(flipped)
    assert bool(flipped) == (profile.id != "same")
    kept = dict(
        zip(made.preferences.column("id").to_pylist(), made.preferences.column("kept").to_pylist(), strict=True)
    )
    assert {id for id in kept if kept[id]} == {id for id in voted if stored.side(id, own)}


def test_the_weights_of_the_principles_make_the_very_labels_of_the_run(pocket: tuple[Path, Stored]) -> None:
    root, _ = pocket
    made = labels(root, PROFILES[0])
    with connect(root) as connection:
        stored = connection.sql("FROM preferences ORDER BY id").to_arrow_table()
    assert made.preferences.equals(stored)
    assert not made.changed


WEIGHTS = st.fixed_dictionaries({each.id: st.sampled_from([0.0, 0.5, 1.0, 2.75]) for each in PRINCIPLES})


@pytest.fixture(scope="module")
def jury(tmp_path_factory: pytest.TempPathFactory) -> Any:
    roots = {}
    for aggregate in ("mean", "majority"):
        root = tmp_path_factory.mktemp(aggregate)
        roots[aggregate] = root, make(Warehouse(root), JURY, pairs=60, section=judge_section(aggregate=aggregate))
    return roots


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(weights=WEIGHTS.filter(lambda each: any(each.values())), aggregate=st.sampled_from(["mean", "majority"]))
def test_each_label_is_that_of_one_pair_by_itself(jury: Any, weights: dict[str, float], aggregate: str) -> None:
    root, votes = jury[aggregate]
    made = labels(root, Profile("p", tuple(sorted(weights.items()))), VOTES_RUN)
    rows = {row["id"]: row for row in made.preferences.to_pylist()}
    counted = {id: weight for id, weight in weights.items() if weight}
    for pair in votes.pairs:
        cast = [vote for vote in votes.judgements[pair.id] if vote.principle_id in counted]
        wanted = label_pair(pair, cast, votes.expected[pair.id], counted, Rules.of(votes.section))
        found = Preference(**{name: rows[pair.id][name] for name in asdict(wanted)})
        same(replace(found, dissent=tuple(found.dissent)), wanted, label_mass=found.label_mass)


# --- with what else makes labels


def learnt(made: ProfileLabels) -> list[float | None]:
    """Labels of what Dawid–Skene learns from, which perturbations are not."""
    return [row["p_b"] for row in made.preferences.to_pylist() if row["kind"] != "perturbation"]


def test_dawid_skene_says_that_it_passes_over_weights(tmp_path: Path) -> None:
    make(Warehouse(tmp_path), JURY, section=judge_section(aggregate="dawid-skene"))
    heavy = labels(tmp_path, Profile("p", (("calm", 9.0),)), VOTES_RUN)
    light = labels(tmp_path, Profile("p", (("calm", 0.1),)), VOTES_RUN)
    assert learnt(heavy) == learnt(light)
    assert IGNORED in heavy.relabelled.notes
    without = labels(tmp_path, Profile("p", (("calm", 0.0),)), VOTES_RUN)
    assert learnt(without) != learnt(light)


def test_control_is_of_the_votes_that_count_and_calibration_by_the_groups_gold(tmp_path: Path) -> None:
    warehouse = Warehouse(tmp_path)
    votes = make(warehouse, JURY, pairs=300, section=judge_section(control="length", calibrate="temperature"), gold=1.0)
    made = labels(tmp_path, Profile("p", (("calm", 0.0),)), VOTES_RUN)
    assert made.relabelled.label_by == "mean, length, temperature"
    nobody = labels(tmp_path, Profile("p", group="town"), VOTES_RUN)
    assert any("0 and 0 gold labels of town" in note for note in nobody.relabelled.notes)
    turned = [
        Annotation(pair.id, VOTES_RUN, pair.a.prompt_id, "ann", float(not votes.better_b[pair.id]), "a.csv", pair.id,
                   rater_groups=("town",))
        for pair in votes.pairs
    ]  # fmt: skip
    warehouse.write_annotations(VOTES_RUN, turned)
    against = labels(tmp_path, Profile("p", group="town"), VOTES_RUN)
    assert any("became ties" in note for note in against.relabelled.notes)


def test_votes_that_stopped_early_may_leave_a_pair_undecided(tmp_path: Path) -> None:
    stored = store(tmp_path, votes="adaptive", sure=0.95)
    warehouse = Warehouse(tmp_path)
    early = [id for id, votes in stored.votes.items() if votes][:30]
    with connect(tmp_path) as connection:
        judgements = connection.sql("FROM judgements").to_arrow_table()
        preferences = connection.sql("FROM preferences").to_arrow_table()
    first = VOTING[0].id  # of these pairs only the first principle was asked
    asked = [
        not (row["pair_id"] in early and row["principle_id"] != first)
        for row in judgements.select(["pair_id", "principle_id"]).to_pylist()
    ]
    spared = [2 * (len(VOTING) - 1) * (id in early) for id in preferences.column("id").to_pylist()]
    place = preferences.column_names.index("votes_spared")
    field = preferences.schema.field("votes_spared")
    warehouse.replace_rows("judgements", RUN, judgements.filter(asked))
    warehouse.replace_rows("preferences", RUN, preferences.set_column(place, field, pa.array(spared, field.type)))
    heavy = labels(tmp_path, Profile("p", (*((each.id, 0.001) for each in VOTING[1:]), (first, 9.0))))
    light = labels(tmp_path, Profile("p", ((first, 0.001),)))
    decided = sum(stored.says[id][first] != 0.5 for id in early)
    assert (heavy.stopped, light.stopped) == (30, 30)
    assert heavy.undecided <= 30 - decided < light.undecided == 30


def test_labels_without_votes_have_no_profiles(tmp_path: Path) -> None:
    store(tmp_path, confirm="votes")
    run = Warehouse(tmp_path).read_run(RUN)
    assert run
    other = replace(run, recipe={"judge": {"confirm": "reward"}})
    with connect(tmp_path) as connection, pytest.raises(InputError, match="without votes"):
        profile_labels(connection, other, CONSTITUTION, PROFILES[1])


# --- export and audit


def exported(root: Path, out: Path, format: str, **given: Any) -> list[bytes]:
    done = export(root, RUN, Settings.model_validate({"format": format, "cleaning": NO_CLEANING, **given}), out)
    return [(out / file.path).read_bytes() for file in done.files]


@pytest.mark.parametrize("format", ["dpo", "reward", "robust", "grpo"])
def test_export_by_the_same_weights_has_the_same_bytes_and_by_others_not(
    pocket: tuple[Path, Stored], tmp_path: Path, format: str
) -> None:
    root, _ = pocket
    base = exported(root, tmp_path / "base", format)
    assert exported(root, tmp_path / "same", format, profile="same") == base
    assert exported(root, tmp_path / "courteous", format, profile="courteous") != base


def test_the_chosen_answers_and_the_card_are_the_profiles(pocket: tuple[Path, Stored], tmp_path: Path) -> None:
    root, stored = pocket
    done = export(root, RUN, Settings(format="dpo", profile="facts", cleaning=NO_CLEANING, test=0), tmp_path / "out")
    rows = [row for file in done.files for row in pq.read_table(done.out / file.path).to_pylist()]
    weights = CONSTITUTION.weights(PROFILES[3])
    wanted = {id: stored.side(id, weights) for id in stored.pairs if stored.votes[id]}
    assert {row["pair_id"] for row in rows} == {id for id, chosen in wanted.items() if chosen}
    for row in rows:
        pair = stored.pairs[row["pair_id"]]
        assert row["chosen"][0]["content"] == (pair.b if wanted[pair.id] > 0 else pair.a).text
    card = (done.out / "README.md").read_text()
    assert "### Profile facts" in card
    assert "invent-nothing 1; no vote of another counts" in card
    assert '"profile": "facts"' in (done.out / "manifest.json").read_text()


def test_export_refuses_a_profile_that_it_cannot_use(pocket: tuple[Path, Stored], tmp_path: Path) -> None:
    root, _ = pocket
    with pytest.raises(InputError, match="no profile 'nobody'") as told:
        exported(root, tmp_path / "a", "dpo", profile="nobody")
    assert "it has same, guarded" in (told.value.hint or "")
    with pytest.raises(InputError, match="not chosen by votes"):
        exported(root, tmp_path / "b", "sft", profile="guarded")
    with pytest.raises(ValueError, match="profile: says what each principle's votes count"):
        Settings(format="dpo", profile="guarded", principles=("no-harm",))


def test_the_audit_says_what_each_profile_changes_and_how_far_it_is_its_groups(tmp_path: Path) -> None:
    stored = store(tmp_path, pairs=120)
    courteous = CONSTITUTION.weights(PROFILES[2])
    Warehouse(tmp_path).write_annotations(RUN, gold_of(stored, {"ann": ["town"], "bob": ["town"]}, courteous))
    found = {(each.figure, each.subject): each for each in audit(tmp_path, RUN, sections=["profiles", "people"])}
    base, voted = CONSTITUTION.weights(), [id for id in stored.pairs if stored.votes[id]]
    own = {id: (stored.side(id, base), stored.side(id, courteous)) for id in voted}
    both = [a * b for a, b in own.values() if a * b]
    flips = found["profile_flips", "courteous"]
    assert flips.value == pytest.approx(sum(each < 0 for each in both) / len(both))
    assert flips.n == len(both)
    assert found["profile_flips", "same"].value == 0
    assert found["profile_alignment", "courteous"].value == 1
    assert found["profile_alignment", "guarded"].note == "the profile names no `group` of raters"
    said = [(1 + a * b) / 2 for a, b in own.values() if b]
    assert found["group_alignment", "town"].value == pytest.approx(sum(said) / len(said))
    assert found["group_ceiling", "town"].value == pytest.approx(
        sum((1 + abs(stored.side(id, courteous))) / 2 for id in stored.pairs) / len(stored.pairs)
    )


# --- the file


def read(text: str) -> Any:
    return parse(tomllib.loads(text))


def test_a_constitution_with_profiles_comes_back_from_toml_and_from_the_warehouse(tmp_path: Path) -> None:
    text = write_toml(CONSTITUTION)
    assert "weights = { be-polite = 4.0, do-not-preach = 2.0, no-harm = 0.25 }" in text
    assert read(text).constitution() == CONSTITUTION
    warehouse = Warehouse(tmp_path)
    warehouse.write_principles(RUN, CONSTITUTION)
    assert warehouse.read_principles(RUN) == CONSTITUTION


def test_the_digest_knows_profiles_and_stays_where_there_are_none() -> None:
    without = replace(CONSTITUTION, profiles=())
    assert without.digest != CONSTITUTION.digest
    lighter = replace(PROFILES[1], weights=(("no-harm", 0.0),))
    assert replace(CONSTITUTION, profiles=(lighter,)).digest != replace(CONSTITUTION, profiles=(PROFILES[1],)).digest
    small = Constitution("s", "1.0.0", "", PRINCIPLES)
    assert small.digest == Constitution("s", "1.0.0", "", PRINCIPLES, profiles=()).digest


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ('id = "x"\nweights = { no-ham = 1.0 }', "weights: there is no principle no-ham"),
        ('id = "x"\nweights = { no-harm = -1.0 }', "weights, no-harm: "),
        ('id = "x"\nweights = { no-harm = "2" }', "weights, no-harm: expected a number"),
        ('id = "same"', "the id same is there before"),
        ('id = "x"\nsystem_prompt = "gone"', "there is no system prompt gone"),
        ('id = "x"\nweight = 2', "unknown field; did you mean weights?"),
        (f'id = "x"\nweights = {{ {", ".join(f"{each.id} = 0" for each in VOTING)} }}', "no principle that compares"),
    ],
)
def test_check_names_what_is_wrong_with_a_profile(table: str, fault: str) -> None:
    faults = [each.message for each in read(f"{write_toml(CONSTITUTION)}\n[[profiles]]\n{table}\n").faults]
    assert len(faults) == 1
    assert fault in faults[0]


def test_diff_shows_profiles_by_id() -> None:
    heavier = replace(PROFILES[1], weights=(("no-harm", 9.0),))
    after = replace(CONSTITUTION, profiles=(heavier, *PROFILES[2:]))
    changes = diff_constitutions(CONSTITUTION, after)
    assert [(each.kind, each.field) for each in changes] == [
        ("profiles", "profile same"),
        ("profiles", "profile guarded"),
    ]
    text = render_diff(CONSTITUTION, after)
    assert "removed profile same" in text
    assert "reworded profile guarded" in text
    assert "profiles changed" in text
