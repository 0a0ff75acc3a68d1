"""The second journey's shell: the rules are core/rollout.py's, what they ask for is done here."""
