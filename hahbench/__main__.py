"""``python -m hahbench``."""

from hahbench.cli import main

main()
