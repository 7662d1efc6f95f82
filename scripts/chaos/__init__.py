"""Real faults for real runs: killed processes, full disks, lost nodes."""
