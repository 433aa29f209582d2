"""What the Kubernetes API defines and every daemon needs to speak it. Must not know any sibling package."""
