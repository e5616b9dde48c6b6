"""English pages that the demo web labels German by mistake: a few sentence patterns and their words."""

from __future__ import annotations

from definemed_pipeline.demo.grammar import Words, phrases

ENGLISH_WORDS: Words = {
    "who": phrases(
        "the teacher; our neighbour; a young driver; the old gardener; my sister; the trainer; a student; the baker; the captain"
    ),
    "what": phrases(
        "a quiet village; the blue car; an old bridge; a new recipe; the garden fence; a small computer; the final match; a long letter"
    ),
    "did": phrases("found; described; visited; painted; remembered; repaired; photographed; showed us"),
    "where": phrases("near the river; in the market; behind the station; at the coast; in the kitchen; on the hill; at school"),
    "when": phrases("last summer; every Sunday; before breakfast; in early spring; two years ago; after the storm; on Monday"),
    "why": phrases(
        "the weather was mild; nobody had a key; the price was low; the road was closed; the music was loud; it felt right"
    ),
}
ENGLISH_PATTERNS = (
    "{when} {who} {did} {what} {where}.",
    "{who} {did} {what} because {why}.",
    "It was {when} that {who} {did} {what}.",
    "Nobody knows why {who} {did} {what} {where}.",
    "If you walk {where}, you will see {what} and {what}.",
    "{why}, so {who} stayed {where}.",
    "{what} can be seen {where}, and {who} often talks about it.",
    "We asked {who} about {what}, but {why}.",
    "There is {what} {where}; {who} {did} it {when}.",
)
ENGLISH_MEDICINE_PATTERNS = (
    "The patient was seen {where} and treated by the doctor {when}.",
    "A careful diagnosis helps the doctor to choose the right therapy.",
    "{when} the clinic started a trial of a new drug with forty patients.",
    "Side effects were mild, and {who} recovered within a week.",
    "The hospital {where} treats patients with chronic disease.",
    "Symptoms often improve after treatment, because {why}.",
    "The nurse asked {who} about pain, fever and medication.",
    "Blood tests were repeated {when}, and the dose was reduced.",
    "Early treatment lowers the risk for {who}.",
)
