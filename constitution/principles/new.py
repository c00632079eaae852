"""A constitution to begin with: one principle that runs as it is, and what else a file may hold, as comments."""

from __future__ import annotations

import re
from pathlib import Path

from constitution.errors import PrincipleError
from constitution.principles.files import create_file, is_semver, path_of, shown
from constitution.principles.schema import NAME_PATTERN

START = """\
# What answers are revised and judged by. `constitution principles check NAME` says what is wrong with this file, `test`
# puts the examples to a judge, `lock` makes this version final, `bump` begins the next.

name = "NAME"                     # the folder's name
version = "VERSION"                 # semantic version, the file's name
description = "What we ask of our assistant's answers."
# source = "Customer charter"     # where the principles come from
# license = "CC-BY-4.0"
# language = "en"                 # of the texts (BCP 47): says whose words the check looks for
# translation_of = "general@1.2.0"  # `constitution principles diff` shows what is not translated

[[exemplars]]                     # a worked critique and revision, shown before every principle's own
prompt = "My order has not come."
response = "Orders can take a while."
critique = "The answer tells the person nothing new and leaves them to wait. It could say how to find out more."
revision = "I'm sorry that you are still waiting. With the order's number I can look up where it is."

[[principles]]
id = "next-step"                  # recipes choose principles by id or tag
critique_request = "Where does the answer leave the person without knowing what to do next?"
revision_request = "Rewrite the answer so that the person knows what to do next."
comparison_question = "Which answer makes it clearer to the person what to do next?"
weight = 1.0                      # chance of being drawn, and weight of its votes
tags = ["helpful"]
# aim = "Say what to do next."    # for system prompts, as are its opposite and its reason:
# against = "Leave open what to do next."
# why = "People come with a task."
# source = "Customer charter, section 2"
# quote = "Each answer names the next step."  # the words of a document that it follows from
# clauses = ["charter#2"]         # and where they are: <document>#<clause>

[[principles.examples]]           # a judge that follows the principle prefers `better`
prompt = "How do I return these shoes?"
better = "Put them into the box with the enclosed label, and hand it in at any post office within thirty days."
worse = "Returns are possible under certain conditions."

[[principles.criteria]]           # a checklist, for judge.method = "rubric" and for rewards
question = "Does the answer say what to do next?"
# kind = "essential"              # or important, optional, pitfall: reward.combine = "veto" looks at the essential ones

[[principles.criteria]]
question = "Does the answer send the person elsewhere without need?"
good = "no"                       # the reply that speaks for the answer
weight = 0.5

# [[principles]]                  # one that only votes
# id = "plain-words"
# comparison_question = "Which answer says it in plainer words?"

# [[system_prompts]]              # for [sample.NAME] of a recipe; in no export
# id = "all-aims"
# text = "You speak for the shop. {{principles}}"  # their aims; or {{principle}}, {{aim}}, {{against}} of a drawn one

# [[profiles]]                    # the same votes by other weights: constitution export --profile impatient
# id = "impatient"
# weights = { plain-words = 3.0 }
"""


def new_constitution(root: Path, name: str, version: str = "1.0.0") -> Path:
    """Writes principles/<name>/<version>.toml, a start that `check` and a run take as it is, and returns its path.

    Raises PrincipleError for what is no name or version, and where the file exists.
    """
    if not re.fullmatch(NAME_PATTERN, name):
        raise PrincipleError(f"{name}: a name is lower-case letters, digits and hyphens")
    if not is_semver(version):
        raise PrincipleError(f"--version {version}: is not a semantic version, such as 1.0.0")
    target = path_of(root, name, version)
    text = START.replace("NAME", name).replace("VERSION", version)
    create_file(target, text.encode(), shown(root, target))
    return target
