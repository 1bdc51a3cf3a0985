"""Who may talk to the service: encryption, certificates, tokens. The threats are in docs/security.md."""
