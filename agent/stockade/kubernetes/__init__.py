"""What a cluster's API says of this node's pods and of their policies, and what it is told of them.

Governs nothing itself: stockade.node does.
"""
