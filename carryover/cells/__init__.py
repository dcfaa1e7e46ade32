"""A cell from what is typed to its record: asked for, made ready, keyed, learnt, recorded."""
