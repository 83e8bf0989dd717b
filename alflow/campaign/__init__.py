"""The loop: what to do next is decided by a pure function; a runner carries it out and keeps the journal."""
