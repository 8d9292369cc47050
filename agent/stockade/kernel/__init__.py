"""The kernel side: compile bpf/, load it, write policy into its maps, read its events. The only room that knows bcc and bpf(2).

abi.py imports nothing of ours, so that a worker without bpf() can decode ORIGIN.
"""
