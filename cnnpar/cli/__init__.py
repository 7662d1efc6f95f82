"""The command line: commands, their options, and how a command is a program."""
