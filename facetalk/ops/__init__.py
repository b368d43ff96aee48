"""The typed face of the compiled operations."""
