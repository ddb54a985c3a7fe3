"""Projects on many hosts: the chain of gateways, placement, registry, permissions."""
