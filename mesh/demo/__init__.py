"""`tapmesh demo`: the main job on one machine, with the real programs as real processes on loopback."""
