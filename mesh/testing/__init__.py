"""What others may build their tests on: a simulated disk under SQLite (:mod:`mesh.testing.disk`)."""
