"""The tune clock: a server's plan for each class of queries, learned from its own traffic."""
