"""What the end-to-end, bypass and bench suites stand on: an internet of real servers in a namespace, and a machine that runs Stockade.

netns → ca → nginx · web · packages → internet     the servers, their names and certificates
probes · programs · machine                        what this kernel can do, what runs in the sandbox, `stockade run` itself
"""
