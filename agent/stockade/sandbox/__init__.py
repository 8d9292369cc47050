"""The sandbox: its cgroup, namespaces, mounts, trust store and system call filter. The only importer of pyroute2.

What a sandbox is made of is decided here and handed to the launcher as one frozen Plan; nothing here reads policy at run time.
"""
