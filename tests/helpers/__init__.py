"""What tests of several folders share: made data, tiny runs, workers without Ray, a scheduler in virtual time."""
