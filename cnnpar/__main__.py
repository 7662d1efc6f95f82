"""`python -m cnnpar`: the same as `cnnpar`."""

from cnnpar.cli.commands import main

main()
