"""The little that tinychat knows of the world: plain tables, nothing computed."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "ADJECTIVES",
    "ANIMALS",
    "CITIES",
    "COLOURS",
    "COLOUR_OF",
    "COUNTRIES",
    "DAYS",
    "FOODS",
    "JOBS",
    "MONTHS",
    "NAMES",
    "NUMBER_WORDS",
    "OPPOSITES",
    "PLACES",
    "PLANETS",
    "THINGS",
    "Animal",
    "Country",
]


@dataclass(frozen=True)
class Country:
    """A country and what can be asked about it."""

    name: str
    capital: str
    continent: str
    language: str
    currency: str


@dataclass(frozen=True)
class Animal:
    """An animal and what can be asked about it."""

    name: str
    legs: int
    young: str
    food: str
    home: str


def _countries(table: str) -> tuple[Country, ...]:
    rows = (line.split("|") for line in table.strip().splitlines())
    return tuple(Country(*row) for row in rows)


def _animals(table: str) -> tuple[Animal, ...]:
    rows = (line.split("|") for line in table.strip().splitlines())
    return tuple(Animal(name, int(legs), young, food, home) for name, legs, young, food, home in rows)


def _split(words: str) -> tuple[str, ...]:
    return tuple(" ".join(word.split()) for word in words.split(","))


def _pairs(words: str) -> tuple[tuple[str, str], ...]:
    return tuple((first, second) for first, second in (pair.split() for pair in _split(words)))


COUNTRIES = _countries("""
France|Paris|Europe|French|euro
Germany|Berlin|Europe|German|euro
Italy|Rome|Europe|Italian|euro
Spain|Madrid|Europe|Spanish|euro
Portugal|Lisbon|Europe|Portuguese|euro
Greece|Athens|Europe|Greek|euro
Austria|Vienna|Europe|German|euro
Ireland|Dublin|Europe|English|euro
Finland|Helsinki|Europe|Finnish|euro
the Netherlands|Amsterdam|Europe|Dutch|euro
Belgium|Brussels|Europe|Dutch|euro
Poland|Warsaw|Europe|Polish|zloty
Hungary|Budapest|Europe|Hungarian|forint
Sweden|Stockholm|Europe|Swedish|krona
Norway|Oslo|Europe|Norwegian|krone
Denmark|Copenhagen|Europe|Danish|krone
Iceland|Reykjavik|Europe|Icelandic|krona
Switzerland|Bern|Europe|German|franc
Ukraine|Kyiv|Europe|Ukrainian|hryvnia
Romania|Bucharest|Europe|Romanian|leu
the United Kingdom|London|Europe|English|pound
Russia|Moscow|Europe|Russian|ruble
Turkey|Ankara|Asia|Turkish|lira
Japan|Tokyo|Asia|Japanese|yen
China|Beijing|Asia|Chinese|yuan
India|New Delhi|Asia|Hindi|rupee
South Korea|Seoul|Asia|Korean|won
Thailand|Bangkok|Asia|Thai|baht
Vietnam|Hanoi|Asia|Vietnamese|dong
Indonesia|Jakarta|Asia|Indonesian|rupiah
Mongolia|Ulaanbaatar|Asia|Mongolian|tugrik
Israel|Jerusalem|Asia|Hebrew|shekel
Iran|Tehran|Asia|Persian|rial
Egypt|Cairo|Africa|Arabic|pound
Morocco|Rabat|Africa|Arabic|dirham
Kenya|Nairobi|Africa|Swahili|shilling
Ethiopia|Addis Ababa|Africa|Amharic|birr
Ghana|Accra|Africa|English|cedi
Nigeria|Abuja|Africa|English|naira
Canada|Ottawa|North America|English|dollar
the United States|Washington|North America|English|dollar
Mexico|Mexico City|North America|Spanish|peso
Cuba|Havana|North America|Spanish|peso
Brazil|Brasilia|South America|Portuguese|real
Argentina|Buenos Aires|South America|Spanish|peso
Chile|Santiago|South America|Spanish|peso
Peru|Lima|South America|Spanish|sol
Colombia|Bogota|South America|Spanish|peso
Australia|Canberra|Oceania|English|dollar
New Zealand|Wellington|Oceania|English|dollar
""")

ANIMALS = _animals("""
fox|4|cub|mice and berries|a den
bear|4|cub|honey and fish|a cave
rabbit|4|kit|grass and carrots|a burrow
mouse|4|pup|seeds and cheese|a hole
cat|4|kitten|fish and meat|a house
dog|4|puppy|meat and bones|a kennel
horse|4|foal|hay and grass|a stable
cow|4|calf|grass and hay|a barn
sheep|4|lamb|grass|a meadow
goat|4|kid|leaves and grass|a farm
pig|4|piglet|roots and corn|a sty
lion|4|cub|meat|the savanna
tiger|4|cub|meat|the jungle
elephant|4|calf|leaves and fruit|the savanna
giraffe|4|calf|leaves|the savanna
monkey|2|infant|bananas and nuts|the jungle
wolf|4|pup|meat|a den
deer|4|fawn|leaves and grass|the forest
squirrel|4|kit|nuts and seeds|a tree
hedgehog|4|hoglet|worms and beetles|a hedge
badger|4|cub|worms and roots|a burrow
otter|4|pup|fish|a river
beaver|4|kit|bark and leaves|a lodge
frog|4|tadpole|flies|a pond
turtle|4|hatchling|leaves and weeds|the sea
owl|2|owlet|mice|a tree
duck|2|duckling|weeds and bread|a pond
goose|2|gosling|grass|a lake
chicken|2|chick|corn and seeds|a coop
penguin|2|chick|fish|the ice
eagle|2|eaglet|fish and rabbits|a nest
swan|2|cygnet|weeds|a lake
crow|2|chick|seeds and worms|a nest
kangaroo|2|joey|grass|the bush
whale|0|calf|krill and fish|the sea
dolphin|0|calf|fish|the sea
shark|0|pup|fish|the sea
snake|0|snakelet|mice and frogs|the grass
snail|0|hatchling|leaves|a garden
spider|8|spiderling|flies|a web
bee|6|larva|nectar|a hive
ant|6|larva|leaves and seeds|an anthill
butterfly|6|caterpillar|nectar|a garden
camel|4|calf|grass and dates|the desert
zebra|4|foal|grass|the savanna
hippo|4|calf|grass|a river
panda|4|cub|bamboo|the forest
koala|4|joey|leaves|a tree
""")

_MORE_CITIES = _split("""
New York, Boston, Chicago, Munich, Hamburg, Milan, Naples, Barcelona, Porto, Lyon, Sydney, Toronto,
Mumbai, Osaka, Kyoto, Shanghai, Zurich, Geneva, San Francisco, Los Angeles, Seattle, Prague,
Manchester, Edinburgh, Rio de Janeiro, Cape Town, Istanbul
""")
CITIES = (*(country.capital for country in COUNTRIES), *_MORE_CITIES)

NAMES = _split("""
Anna, Ben, Clara, David, Emma, Felix, Grace, Henry, Ida, Jack, Kate, Leo, Mia, Noah, Olga, Paul,
Rosa, Sam, Tina, Uma, Victor, Wendy, Yara, Zoe, Tom, Lily, Max, Nora, Oscar, Ella, Finn, Ruby, Milo,
Luna, Hugo, Nina, Otto, Pia, Theo, Bob, Alice, John, Mary, Peter, Maria, Lucas, Sara, James, Julia,
Daniel, Eva
""")

COLOURS = ("red", "blue", "green", "yellow", "orange", "purple", "pink", "brown", "black", "white", "grey")

COLOUR_OF = {
    "the sky": "blue",
    "grass": "green",
    "snow": "white",
    "a banana": "yellow",
    "a tomato": "red",
    "coal": "black",
    "milk": "white",
    "a carrot": "orange",
    "a lemon": "yellow",
    "the sun": "yellow",
    "a strawberry": "red",
    "chocolate": "brown",
    "a frog": "green",
    "a flamingo": "pink",
    "the sea": "blue",
    "blood": "red",
    "a polar bear": "white",
    "an elephant": "grey",
    "a plum": "purple",
    "a leaf": "green",
}

OPPOSITES = _pairs("""
hot cold, big small, happy sad, fast slow, old young, day night, up down, left right, light dark,
open closed, full empty, hard soft, wet dry, high low, rich poor, strong weak, loud quiet, early
late, near far, thick thin, clean dirty, good bad, easy difficult, long short, first last, black
white, summer winter, brave afraid, awake asleep, push pull, win lose, start stop
""")

DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)

PLANETS = ("Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune")

NUMBER_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")

FOODS = _split("""
apples, bread, soup, pancakes, cheese, pasta, rice, pizza, cake, cherries, honey, carrots, noodles,
plums, chocolate, eggs, ice cream, salad, tomatoes, grapes
""")

JOBS = _split("""
baker, teacher, doctor, pilot, farmer, painter, singer, gardener, cook, nurse, sailor, writer,
driver, engineer, student, carpenter, dentist, judge, librarian
""")

PLACES = _split("""
forest, village, valley, meadow, garden, mountain, town, island, farm, castle, lake, river, beach,
city, desert, hill, cave, park, harbour, library
""")

THINGS = _split("""
kite, hat, key, drum, lantern, boat, ball, book, bell, scarf, map, ring, cup, basket, flute,
blanket, mirror, coin, box, ladder, umbrella, violin, clock, shell
""")

ADJECTIVES = _split("""
little, brave, kind, clever, shy, curious, young, old, happy, lonely, quiet, merry, tiny, gentle,
hungry, sleepy, proud, lazy, friendly, silly
""")
