"""How well it finds, measured on texts that nothing was trained or tuned on: `make eval-privacy`."""
