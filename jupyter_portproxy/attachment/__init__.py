"""Services that attach from elsewhere: their tokens, the agents that dial in, and the agent itself."""
