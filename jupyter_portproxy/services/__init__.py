"""Services started from templates: their definitions, processes, ports, health and logs."""
