"""What a simulation writes: traces in several formats, the machine's files, the true outcome."""
