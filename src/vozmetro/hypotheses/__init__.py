"""What people claim about models, as data, and the evidence that answers it, read from disk."""
