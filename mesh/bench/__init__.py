"""Measurements that anyone can repeat: `tapmesh bench`. JSON out; no timing is ever asserted in a test."""
