"""What is counted of running sandboxes, and how others read it: Prometheus over HTTP, `stockade status` and `top` by the control socket.

Reading order: figures (what a worker measures) · activity (who did what, bounded) · ledger (what the agent keeps of one sandbox) ·
snapshot (all of it at one moment) · catalogue (every metric there is, and its reference page) · samples · collector (the only importer of
prometheus_client) · peers, endpoint, targets (who may ask, the answer, and where a Prometheus finds it).

Nothing here decides, and nothing here is evidence: that is the trail. A figure that is lost is a gap in a picture.
"""
