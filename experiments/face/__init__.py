"""What people see of the built-in head: geometry over many identities, and contact sheets to look at."""
