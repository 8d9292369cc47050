"""The classifier at work: a process of its own that reads what the sandboxes say to models, and the two ends that ask it.

`process` is that process, `launch` how the agent starts it, `client` how a proxy worker asks it. Importing this package imports no
detector.
"""
