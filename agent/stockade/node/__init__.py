"""The pods of one Kubernetes node, held to their policies, whoever says which those are.

In the order of reading: pod (what is known of one, what is wanted of it, what came of it) · places (where its cgroups are) · station (the
one agent for all of them) · held (one pod's time with it). Knows no API: stockade.kubernetes asks that.
"""
