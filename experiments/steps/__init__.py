"""What fewer sampling steps cost: lips, life, diversity and time over the number of steps."""
