"""The scheduler, a state machine: events and the time go in, actions come out."""
