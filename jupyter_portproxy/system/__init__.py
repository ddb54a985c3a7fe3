"""Questions to the operating system: socket owners, processes, addresses, certificates, descriptors."""
