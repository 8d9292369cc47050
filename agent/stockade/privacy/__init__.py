"""The privacy router: what is in an LLM call, and where it may go. Not built yet; its room is kept, and nothing claims to use it."""
