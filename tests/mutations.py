"""Damaged files: random changes of good ones, always the same for a seed."""

import json


def mutated(data, random):
    """Bytes with one change or some: others, missing, more, repeated or cut off at the end.

    Half of the changes are near the beginning, where headers are.
    """
    data = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4, 16))):
        if not data:
            break
        place = random.randrange(min(len(data), random.choice((64, len(data)))))
        count = random.randrange(1, 9)
        kind = random.randrange(8)
        if kind < 3:
            data[place] = random.randrange(256)
        elif kind == 3:
            data[place : place + count] = bytes([random.choice((0, 1, 127, 128, 255))]) * count
        elif kind == 4:
            del data[place : place + count]
        elif kind == 5:
            data[place:place] = bytes(random.randrange(256) for _ in range(count))
        elif kind == 6:
            data[place:place] = data[place : place + 8 * count]
        else:
            del data[place + 1 :]
    return bytes(data)


_NUMBERS = (None, True, -1, 0, 1, 2**31, 2**63, 1e300)
_VALUES = (*_NUMBERS, "", "x", "None", "(0, 0)", "(-1,)", "[]", "nan", [], {}, [[0, 0, 0]])


def mutated_json(text, random):
    """The text of a JSON document with one value or some changed, dropped, doubled or taken from another place."""
    document = json.loads(text)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        places = list(_places(document))
        if not places:
            break
        container, key = random.choice(places)
        kind = random.randrange(6)
        if kind == 0:
            del container[key]
        elif kind == 1 and isinstance(container, list):
            container.insert(key, container[key])
        elif kind == 2:
            other, place = random.choice(places)
            container[key] = json.loads(json.dumps(other[place]))
        elif kind == 3 and isinstance(container[key], str):
            old = container[key]
            place = random.randrange(len(old) + 1)
            container[key] = old[:place] + random.choice("0123456789-(), eE.xé\0\n") + old[place + 1 :]
        elif kind == 4 and type(container[key]) is int:
            container[key] += random.choice((-1, 1, 7, 1000))
        else:
            container[key] = random.choice(_VALUES)
    return json.dumps(document)


def _places(value):
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield value, key
        yield from _places(inner)
