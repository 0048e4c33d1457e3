"""The real code of the room in a world whose clock, network, Redis and scheduler are played."""
