"""Governing what Stockade did not start: containers, units and processes that run already, and containers from their first instruction.

In the order of reading: target (which processes) · runtimes (what their runtime knows of them) · running (who they are) · device (their way
out beside the programs) · existing (connections they have) · trust (what a container may be given before it starts) · authority (who signs
for it, also after this agent) · wanted (what somebody asks for) · berth (one agent for one place, and what dead ones left) · attachment
(the whole of it, without a process around it) · foreground (`stockade attach`) · hook (`stockade oci-hook`). A daemon hosts them too
(daemon/attachments.py).
"""
