"""Projects on many hosts: the chain of gateways, the placement of projects on hosts, and each host's registry."""
