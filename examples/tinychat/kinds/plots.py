"""The plots of the stories: for each, what may be said at every step; the cast fills the braces."""

from __future__ import annotations

__all__ = ["CLOSINGS", "OPENINGS", "PLOTS"]

OPENINGS = (
    "Once upon a time there was {a_hero} named {name}. {Subject} lived {near} {a_place}.",
    "Once upon a time, {near} {a_place}, there lived {a_hero} named {name}.",
    "There once was {a_hero} who was called {name} and lived {near} {a_place}.",
    "Long ago, {a_hero} named {name} lived {near} {a_place}.",
)

CLOSINGS = (
    "From that day on, {name} and {friend_name} were best friends.",
    "{name} went home happy and slept well that night.",
    "And so {name} learned that it is good to have a friend.",
    "And they lived happily ever after.",
    'That evening {name} smiled and said: "What a wonderful day!"',
)

PLOTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "lost": (
        (
            "One day {name} lost {possessive} {colour} {thing}.",
            "One morning {possessive} {colour} {thing} was gone.",
            "{Subject} had {a_thing}, but one day it was lost.",
        ),
        (
            "{Subject} looked everywhere, but the {thing} was not there.",
            "{name} looked under the bed and behind the door, but could not find it.",
            "{name} was very sad and began to cry.",
        ),
        (
            'Then {a_friend} named {friend_name} came by. "I will help you," said {friend_name}.',
            'Then {subject} met {a_friend} named {friend_name}, who asked: "Why are you so sad?"',
        ),
        (
            "Together they searched until they found the {thing} under an old tree.",
            "They walked a long way, and at last {friend_name} saw the {thing} in the tall grass.",
            "Together they followed the small tracks, and there lay the {colour} {thing}.",
        ),
        (
            '"Thank you!" said {name}.',
            "{name} was so happy that {subject} danced.",
            "{name} thanked {friend_name}.",
        ),
    ),
    "lonely": (
        (
            "{name} had no friends and felt alone.",
            "Every day {name} played alone.",
            "{Subject} wished for a friend more than anything.",
        ),
        (
            "One day {subject} heard a soft voice behind a big stone.",
            "One day {subject} saw somebody sitting by the road.",
            "One rainy day there was a knock at the door.",
        ),
        (
            "It was {a_friend} named {friend_name}, who was lonely too.",
            'It was {a_friend}. "My name is {friend_name}," the {friend} said. "Will you play with me?"',
        ),
        (
            "They played with {a_thing} until the sun went down.",
            "{name} showed {friend_name} the {colour} {thing}, and they played all day.",
            "They shared some bread and talked about the stars.",
        ),
        ("{name} was not alone any more.", "Now {name} had a friend.", "Never had {name} laughed so much."),
    ),
    "storm": (
        (
            "One night a great storm came.",
            "One day the sky turned dark and a storm began.",
            "One evening the wind grew very strong.",
        ),
        (
            "The wind blew away the roof of {possessive} house.",
            "The rain fell and fell, and {possessive} house was full of water.",
            "A big tree fell on {possessive} house.",
        ),
        (
            '{A_friend} named {friend_name} saw it and called: "Come to my home, it is warm and dry!"',
            "{name} ran out into the rain and met {a_friend} named {friend_name}, who carried a lantern.",
        ),
        (
            "They drank hot soup and waited until the storm was over.",
            "All night they sat by the fire and told each other stories.",
        ),
        (
            "In the morning the sun came out, and they built a new house together.",
            "The next day all the neighbours came to help, and soon the house was as good as new.",
        ),
    ),
    "treasure": (
        (
            "One day {name} found an old map.",
            "One day {subject} found a map inside {a_thing}.",
            "One day the wind brought an old map to {possessive} door.",
        ),
        (
            '"It shows a treasure!" {subject} said, and set out at once.',
            "It showed the way to a treasure behind the hills.",
        ),
        (
            "On the way {subject} met {a_friend} named {friend_name}, who wanted to come along.",
            "{A_friend} named {friend_name} knew the way and went with {object}.",
        ),
        (
            "They crossed a river, climbed a hill and dug a deep hole.",
            "They walked for three days until they came to a dark cave.",
        ),
        (
            "There was no gold in the box, only {a_thing}, but they laughed and liked it very much.",
            "There they found a box full of gold, and they gave half of it to the poor.",
        ),
    ),
    "brave": (
        (
            "{name} was afraid of the dark.",
            "{name} was afraid of water.",
            "Everybody said that {name} was too small to be brave.",
        ),
        (
            "One day {subject} heard somebody call for help.",
            "One day {a_friend} named {friend_name} fell into the river and called for help.",
        ),
        (
            "{name} took a deep breath and ran as fast as {subject} could.",
            "{name} was afraid, but {subject} did not stop to think.",
        ),
        (
            "With a long stick {subject} pulled {friend_name} the {friend} out to safety.",
            "{name} threw a rope, and {friend_name} the {friend} held on to it and was saved.",
        ),
        (
            '"You are the bravest {hero} I know," said {friend_name}, and gave {object} {a_thing}.',
            "Everybody cheered, and {name} was never afraid again.",
        ),
    ),
    "gift": (
        (
            "It was the birthday of {friend_name} the {friend}, and {name} had no gift.",
            "{name} wanted to give {friend_name} the {friend} a gift.",
        ),
        (
            "{Subject} had no money, so {subject} thought for a long time.",
            "{Subject} went to the market, but everything cost too much.",
        ),
        (
            "Then {subject} had an idea: {subject} would make {a_plain_thing}.",
            '"I will make {a_plain_thing} myself," {subject} said.',
        ),
        (
            "{Subject} worked all night and painted the {thing} {colour}.",
            "{Subject} took some wood and {colour} paint and worked until it was done.",
        ),
        (
            "When {friend_name} saw the {colour} {thing}, {friend_name} was full of joy.",
            '"This is the best gift of all," said {friend_name}.',
        ),
    ),
}
