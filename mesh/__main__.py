"""`python -m mesh` is `tapmesh`."""

from mesh.cli import main

if __name__ == "__main__":
    main()
