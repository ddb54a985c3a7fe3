"""What every request passes: the policy of ports and hosts, limits, counters, open connections."""
