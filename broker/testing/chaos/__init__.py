"""A chaos run: real processes, lessons that never cease, and a seeded plan of everything that can go wrong.

`plan` draws what goes wrong and when, `hazards` makes it happen, `proxy` stands in the way to Redis and Zoom, `lessons`
are the people, `run` puts it together and judges.
"""
