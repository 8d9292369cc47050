"""Many hosts at one look: what each says of itself, and where they differ.

node (what one host answers) · hosts (which there are) · reach (how each is asked) · drift (what somebody should look at)
"""
