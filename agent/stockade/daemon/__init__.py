"""`stockade daemon`: one agent for all sandboxes of a machine.

nursery and born (who forks, before there are keys) · programs (what holds everybody, and outlives it) · host (trail and worker for all of
them; who is taken over at a restart) · front (its socket: who may ask what) · run (one conversation with a `stockade run`) · client and
terminal (the other end of it) · notify and unit (systemd).
"""
