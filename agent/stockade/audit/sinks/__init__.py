"""Sinks: where records go beside the trail, in a process of its own that only reads it.

The trail is the spool: on disk, in order, kept over a restart, bounded by `behind`. A sink never holds up a decision, because no decision
waits for this process, and nothing is written twice.

Reading order: sink (what every transport does) · cursor (how far one has come) · follow (the trail from there on) · deliver (batches,
retries, what is given up) · file, stream, journald, syslog, web, products, otlp (the transports) · secret, tls · process (its main) ·
shipper (the agent's end of it).
"""

from stockade.audit.sinks.shipper import Shipper, Standing

__all__ = ["Shipper", "Standing"]
