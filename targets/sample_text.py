"""What models are read, and compared on, where no text is given: prose, a conversation, a table, and code.

Written for this purpose. The kinds differ because quantization does not hurt all of them alike.
"""

__all__ = ["DEFAULT_TEXT"]

DEFAULT_TEXT = '''\
The lighthouse stood on the last rock before the open sea, and for as long as anyone in the village could \
remember its keeper had been a woman named Ingrid. Every evening she climbed the hundred and twelve steps, \
wiped the salt from the glass, and lit the lamp. She did not think of it as work. The ships that passed far \
out in the dark were small lights answering a large one, and she liked to believe that somebody on board \
looked up, once, and knew that they were seen.

One winter the storm came three days early. The harbour master sent a boy to tell her, but the causeway was \
already under water, and so the message reached her only as a figure waving from the shore. She understood \
it well enough. She carried up blankets, bread and the spare lamp, closed the shutters on the western side, \
and waited. By midnight the waves struck the tower so hard that the cups rang on their hooks. At two in the \
morning the main lamp went out.

What causes a storm like that? Warm air holds more water than cold air does. When a mass of warm, moist air \
is forced to rise over a colder one, the water condenses, and the heat it gives off makes the air rise \
faster still. The pressure at the surface falls, and wind rushes in from all sides. Because the Earth turns, \
it does not rush straight to the centre but curves, to the right in the northern hemisphere and to the left \
in the southern, and the whole system begins to spin.

User: How many litres does a tank of 2 m by 1.5 m by 0.8 m hold?
Assistant: Multiply the three sides: 2 * 1.5 = 3, and 3 * 0.8 = 2.4 cubic metres. A cubic metre is 1000 \
litres, so the tank holds 2400 litres.
User: And if it is filled to three quarters?
Assistant: Three quarters of 2400 is 1800 litres.

| planet  | moons | day (hours) | year (Earth years) |
|---------|-------|-------------|--------------------|
| Mercury | 0     | 4222.6      | 0.24               |
| Earth   | 1     | 24.0        | 1.00               |
| Mars    | 2     | 24.7        | 1.88               |
| Jupiter | 95    | 9.9         | 11.86              |

def merge(left, right):
    """Merge two sorted lists into one."""
    merged = []
    i = j = 0
    while i < len(left) and j < len(right):
        if left[i] <= right[j]:
            merged.append(left[i])
            i += 1
        else:
            merged.append(right[j])
            j += 1
    return merged + left[i:] + right[j:]

{"name": "get_weather", "arguments": {"city": "Bergen", "days": 3, "unit": "celsius"}}

Die Wellen schlugen gegen den Turm, und doch blieb das Licht nicht lange dunkel. Ingrid stellte die zweite \
Lampe auf den Tisch am Fenster und drehte sie von Hand. Au matin, la mer était calme, et trois bateaux \
attendaient à l'entrée du port. Their captains had seen the light go out, and then come back, unsteady, \
turning at the pace of a tired arm; and they had known exactly where they were.
'''
