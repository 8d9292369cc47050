"""`stockade daemon`: one agent for all sandboxes of a machine, and for what it is asked to govern beside them.

nursery and born (who forks, before there are keys) · programs (what holds everybody, and outlives it) · host (trail and worker for all of
them; who is taken over at a restart) · front (its socket: who may ask what) · run (one conversation with a `stockade run`) · client and
terminal (the other end of it) · ordered (an order on its way) · attachments (what it did not start) · attend, handed and attaching (one
conversation about that, what passes in it, and its other end) · notify and unit (systemd).
"""
