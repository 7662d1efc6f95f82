"""`python -m cnnpar`: the same as `cnnpar`."""

from cnnpar.cli.programs import main

main()
