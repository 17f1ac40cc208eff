"""What operators run: the `perpcore` command and its parts. The top floor: it may import any."""
