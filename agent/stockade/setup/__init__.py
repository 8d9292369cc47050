"""Setting up: what a machine has that a policy should know of, a first policy drafted from it, and a first sandbox that shows it at work.

Asks nobody; `stockade init` is who talks. What is drafted is a file like any other, and the sandbox is `stockade run`.
"""
