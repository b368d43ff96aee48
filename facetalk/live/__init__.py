"""Live: sound that goes on, motion as it comes, and the senders that take it to engines and avatars."""
