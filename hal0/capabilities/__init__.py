"""What the machine can do for people, before they think of slots: cards, and the setup of a new machine."""
