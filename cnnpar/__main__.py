"""`python -m cnnpar`: the same as `cnnpar`."""

from cnnpar.cli import main

main()
