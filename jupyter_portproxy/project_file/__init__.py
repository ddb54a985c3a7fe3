"""Project files: what a folder says of the services and ports that belong to it."""
