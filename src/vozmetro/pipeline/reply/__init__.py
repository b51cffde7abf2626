"""Who answers: an echo, templates, a chat endpoint, or a language model on this machine."""
