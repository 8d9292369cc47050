"""`stockade daemon`: one agent for all sandboxes of a machine.

nursery (who forks, before there are keys) · host (kernel, trail and worker for all of them; what is taken over at a restart) · front (its
socket: who may ask what) · run (one conversation with a `stockade run`) · client and terminal (the other end of it) · notify (systemd).
"""
